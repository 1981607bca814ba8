"""Stock and reservations: who gets which units, and what may become of them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any, Self
from uuid import UUID

from chassis.tables import Base
from contracts.inventory import (
    LowStock,
    ReservedLine,
    Shortage,
    StockEvent,
    StockRejected,
    StockReleased,
    StockReserved,
)
from contracts.orders import OrderCreated
from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, ForeignKeyConstraint
from sqlalchemy.orm import Mapped, mapped_column


class Warehouse(Base):
    __tablename__ = "warehouses"

    name: Mapped[str] = mapped_column(primary_key=True)


class Sku(Base):
    """A SKU that is known here, whether or not there ever was any of it."""

    __tablename__ = "skus"
    __table_args__ = (
        CheckConstraint("low_stock_threshold >= 0", name="low_stock_threshold_not_negative"),
    )

    sku: Mapped[str] = mapped_column(primary_key=True)
    low_stock_threshold: Mapped[int] = mapped_column(server_default="0")


class Stock(Base):
    """The units of a SKU in a warehouse. Each unit ever received is in exactly one place."""

    __tablename__ = "stock"
    __table_args__ = (
        CheckConstraint("received >= 0", name="received_not_negative"),
        CheckConstraint("available >= 0", name="available_not_negative"),
        CheckConstraint("reserved >= 0", name="reserved_not_negative"),
        CheckConstraint("dispatched >= 0", name="dispatched_not_negative"),
        CheckConstraint("available + reserved + dispatched = received", name="units_conserved"),
    )

    sku: Mapped[str] = mapped_column(ForeignKey(Sku.sku), primary_key=True)
    warehouse: Mapped[str] = mapped_column(ForeignKey(Warehouse.name), primary_key=True)
    received: Mapped[int] = mapped_column(BigInteger, server_default="0")
    available: Mapped[int] = mapped_column(BigInteger, server_default="0")
    reserved: Mapped[int] = mapped_column(BigInteger, server_default="0")
    dispatched: Mapped[int] = mapped_column(BigInteger, server_default="0")


class Movement(Enum):
    """What one unit's move adds to (available, reserved, dispatched)."""

    RESERVE = (-1, 1, 0)
    RELEASE = (1, -1, 0)
    DISPATCH = (0, -1, 1)


class UnfillableOrder(Exception):  # noqa: N818  # named for the broken rule
    """An order that asks for nothing, or for less than one of something."""


@dataclass(frozen=True)
class Demand:
    """What an order asks for, in units by SKU."""

    order_id: UUID
    quantities: Mapping[str, int]

    @classmethod
    def of(cls, order: OrderCreated) -> Self:
        """Raises `UnfillableOrder`."""
        if not order.lines or any(line.quantity < 1 for line in order.lines):
            raise UnfillableOrder(f"Order {order.order_id} has no lines, or a line of no units.")
        quantities = Counter[str]()
        for line in order.lines:
            quantities[line.sku] += line.quantity
        return cls(order.order_id, quantities)


@dataclass(frozen=True)
class Level:
    """How many units of a SKU a warehouse can still promise."""

    sku: str
    warehouse: str
    available: int
    low_stock_threshold: int


@dataclass(frozen=True)
class Allocation:
    """What an order gets: all its lines, or none because of the shortages."""

    order_id: UUID
    lines: tuple[ReservedLine, ...] = ()
    shortages: tuple[Shortage, ...] = ()


Shelves = dict[str, dict[str, int]]


def allocate(levels: Iterable[Level], demands: Iterable[Demand]) -> list[Allocation]:
    """Serves the earliest order first (ids grow with time), in whatever order they are given."""
    shelves: Shelves = {}
    for level in levels:
        shelves.setdefault(level.sku, {})[level.warehouse] = level.available
    return [_serve(shelves, demand) for demand in sorted(demands, key=lambda d: d.order_id)]


def _serve(shelves: Shelves, demand: Demand) -> Allocation:
    wanted = demand.quantities.items()
    left = {sku: sum(shelves.get(sku, {}).values()) for sku in demand.quantities}
    shortages = tuple(
        Shortage(sku=sku, requested=quantity, available=left[sku])
        for sku, quantity in wanted
        if quantity > left[sku]
    )
    if shortages:
        return Allocation(demand.order_id, shortages=shortages)
    lines = (line for sku, quantity in wanted for line in _take(shelves[sku], sku, quantity))
    return Allocation(demand.order_id, lines=tuple(lines))


def _take(shelf: dict[str, int], sku: str, quantity: int) -> Iterator[ReservedLine]:
    """Takes from the fullest warehouse first, so that a line is split only if it must be."""
    for warehouse in sorted(shelf, key=lambda name: (-shelf[name], name)):
        taken = min(shelf[warehouse], quantity)
        if not taken:
            return
        shelf[warehouse] -= taken
        quantity -= taken
        yield ReservedLine(sku=sku, warehouse=warehouse, quantity=taken)


def low_stock(
    levels: Iterable[Level], taken: Iterable[ReservedLine], now: datetime
) -> list[LowStock]:
    """The SKUs that taking these lines brought from above their threshold to it or below."""
    before, thresholds = Counter[str](), dict[str, int]()
    for level in levels:
        before[level.sku] += level.available
        thresholds[level.sku] = level.low_stock_threshold
    after = before.copy()
    for line in taken:
        after[line.sku] -= line.quantity
    return [
        LowStock(sku=sku, available=after[sku], threshold=threshold, occurred_at=now)
        for sku, threshold in thresholds.items()
        if after[sku] <= threshold < before[sku]
    ]


class ReservationStatus(StrEnum):
    """`NEW` lasts only inside the transaction that makes the row.

    The two early ones remember what overtook the order's creation.
    """

    NEW = "new"
    SHIPPED_EARLY = "shipped_early"
    CANCELLED_EARLY = "cancelled_early"
    RESERVED = "reserved"
    REJECTED = "rejected"
    RELEASED = "released"
    DISPATCHED = "dispatched"


S = ReservationStatus


class Reservation(Base):
    """What has become of an order's stock. There is one for each order, and it is decided once."""

    __tablename__ = "reservations"

    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    status: Mapped[str]
    shortages: Mapped[list[dict[str, Any]] | None]
    decided_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]

    @property
    def is_open(self) -> bool:
        """True if the order's creation is still to be answered."""
        return self.status in {S.NEW, S.SHIPPED_EARLY}

    def decide(self, allocation: Allocation, now: datetime) -> None:
        self.decided_at = now
        self.status = S.REJECTED if allocation.shortages else S.RESERVED
        if allocation.shortages:
            self.shortages = [shortage.model_dump() for shortage in allocation.shortages]

    def cancel(self, now: datetime) -> bool:
        """The order was cancelled; True if its units are to be released now."""
        return self._end(S.RELEASED, now, early=S.CANCELLED_EARLY)

    def ship(self, now: datetime) -> bool:
        """The order was shipped; True if its units are to be dispatched now."""
        return self._end(S.DISPATCHED, now, early=S.SHIPPED_EARLY)

    def _end(self, status: ReservationStatus, now: datetime, *, early: ReservationStatus) -> bool:
        if self.status == S.NEW:
            self.status = early
        if self.status != S.RESERVED:
            return False
        self.status = status
        self.ended_at = now
        return True

    def outcome(self, lines: Iterable[ReservedLine]) -> StockEvent | None:
        """What to tell of it, now or again; none if nothing was ever decided."""
        match self.status:
            case S.RESERVED | S.DISPATCHED:
                return StockReserved(**self._stamp(self.decided_at), lines=tuple(lines))
            case S.REJECTED:
                shortages = tuple(Shortage(**shortage) for shortage in self.shortages or ())
                return StockRejected(**self._stamp(self.decided_at), shortages=shortages)
            case S.RELEASED:
                return StockReleased(**self._stamp(self.ended_at), lines=tuple(lines))
            case _:
                return None

    def _stamp(self, occurred_at: datetime | None) -> dict[str, Any]:
        return {"order_id": self.order_id, "occurred_at": occurred_at}


class ReservationLine(Base):
    __tablename__ = "reservation_lines"
    __table_args__ = (
        ForeignKeyConstraint(["sku", "warehouse"], ["stock.sku", "stock.warehouse"]),
        CheckConstraint("quantity > 0", name="quantity_positive"),
    )

    order_id: Mapped[UUID] = mapped_column(ForeignKey(Reservation.order_id), primary_key=True)
    sku: Mapped[str] = mapped_column(primary_key=True)
    warehouse: Mapped[str] = mapped_column(primary_key=True)
    quantity: Mapped[int] = mapped_column(BigInteger)
