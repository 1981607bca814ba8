"""Everything the invariants are judged by, as one reading of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta


@dataclass(frozen=True)
class OrderRow:
    id: str
    status: str
    version: int
    total: int
    tracking_number: str | None
    placed_at: datetime
    changed_at: datetime


@dataclass(frozen=True)
class Step:
    """What an order became, with the version it had then."""

    order_id: str
    version: int
    status: str


@dataclass(frozen=True)
class PaymentRow:
    order_id: str
    status: str
    captured: int
    refunded: int


@dataclass(frozen=True)
class Charge:
    """What the provider took for an order, and gave back; only charges that it took."""

    order_id: str
    amount: int
    refunded: int


@dataclass(frozen=True)
class Reservation:
    order_id: str
    status: str


@dataclass(frozen=True)
class StockRow:
    """`lines_reserved` and `lines_dispatched` add up what the reservations say of it."""

    sku: str
    warehouse: str
    received: int
    available: int
    reserved: int
    dispatched: int
    lines_reserved: int
    lines_dispatched: int


@dataclass(frozen=True)
class ShipmentRow:
    order_id: str
    status: str | None
    tracking_number: str | None


@dataclass(frozen=True)
class Projection:
    """What the dashboard shows of an order."""

    order_id: str
    status: str
    version: int


@dataclass(frozen=True)
class DeadLetterRow:
    service: str
    topic: str
    reason: str


@dataclass(frozen=True)
class Snapshot:
    """`missing` says of each source that could not be read why; its field is then empty.

    `unannounced` are the orders that the log lacks, though it still reaches back to them.
    """

    taken_at: datetime
    payment_deadline: timedelta = timedelta(minutes=15)
    orders: Sequence[OrderRow] = ()
    history: Sequence[Step] = ()
    unannounced: Sequence[str] = ()
    payments: Sequence[PaymentRow] = ()
    charges: Sequence[Charge] = ()
    reservations: Sequence[Reservation] = ()
    stock: Sequence[StockRow] = ()
    shipments: Sequence[ShipmentRow] = ()
    projections: Sequence[Projection] = ()
    unpublished: dict[str, int] = field(default_factory=dict[str, int])
    queued: dict[str, int] = field(default_factory=dict[str, int])
    dead_letters: Sequence[DeadLetterRow] = ()
    acknowledged: Sequence[str] = ()
    missing: dict[str, str] = field(default_factory=dict[str, str])
