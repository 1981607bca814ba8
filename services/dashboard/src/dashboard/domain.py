"""What an event tells of an order, and how what was told of one order comes together."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from contracts import Event
from contracts.orders import (
    OrderCancellationRequested,
    OrderCancelled,
    OrderCreated,
    OrderStatus,
    OrderStatusChanged,
)
from contracts.payments import PaymentRefunded, PaymentSucceeded
from contracts.tracking import ShipmentCreated

OPEN = frozenset(
    {OrderStatus.PENDING, OrderStatus.PROCESSING, OrderStatus.CANCELLING, OrderStatus.SHIPPED}
)

# Of two facts about one order the one with the higher version tells version and status; of every
# other column it is the earliest or the largest value that stays. Such a merge gives the same row
# in whatever order, and however often, the facts come.
FROM_NEWEST_VERSION = ("version", "status")
EARLIEST = ("placed_at", "tracked_at")
LARGEST = ("total", "currency", "tracking_number", "paid", "refunded")


class OrderFacts(NamedTuple):
    """What one event tells of an order; one that was only heard of is at least pending.

    Nothing that tells who ordered or where it goes has a place here. Amounts are in minor units of
    `currency`; `refunded` is the sum of all refunds.
    """

    order_id: UUID
    version: int = 0
    status: OrderStatus = OrderStatus.PENDING
    placed_at: datetime | None = None
    total: int | None = None
    currency: str | None = None
    tracking_number: str | None = None
    tracked_at: datetime | None = None
    paid: int = 0
    refunded: int = 0


def facts_of(event: Event) -> OrderFacts | None:
    """None for most events: they say nothing about an order's state."""
    match event:
        case OrderCreated(order_id=order_id, order_version=version):
            return OrderFacts(
                order_id,
                version,
                placed_at=event.occurred_at,
                total=event.total,
                currency=event.currency,
            )
        case OrderStatusChanged(order_id=order_id, order_version=version):
            return OrderFacts(order_id, version, event.status)
        case OrderCancellationRequested(order_id=order_id, order_version=version):
            return OrderFacts(order_id, version, OrderStatus.CANCELLING)
        case OrderCancelled(order_id=order_id, order_version=version):
            return OrderFacts(order_id, version, OrderStatus.CANCELLED)
        case PaymentSucceeded(order_id=order_id):
            return OrderFacts(order_id, paid=event.amount, currency=event.currency)
        case PaymentRefunded(order_id=order_id):
            return OrderFacts(order_id, refunded=event.refunded_total, currency=event.currency)
        case ShipmentCreated(order_id=order_id):
            return OrderFacts(
                order_id, tracking_number=event.tracking_number, tracked_at=event.occurred_at
            )
        case _:
            return None
