"""Events in: what stock, payment and parcel report, and where it takes the order."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from chassis.consumer import Subscriptions
from chassis.event_log import append
from contracts.catalog import ProductUpdated
from contracts.inventory import StockEvent, StockRejected, StockReserved
from contracts.orders import CancellationReason, OrderEvent, OrderStatus
from contracts.payments import PaymentEvent, PaymentFailed, PaymentRefunded, PaymentSucceeded
from contracts.tracking import (
    ShipmentCreated,
    ShipmentEvent,
    ShipmentStatus,
    ShipmentUpdated,
    ShipmentVoided,
)
from sqlalchemy.ext.asyncio import AsyncSession

from orders import store
from orders.domain import Order
from orders.prices import forget_products

E = TypeVar("E", bound=StockEvent | PaymentEvent | ShipmentEvent)
Reaction = Callable[[Order, E, datetime], OrderEvent | None]

PARCEL_TO_ORDER = {
    ShipmentStatus.PICKED_UP: OrderStatus.SHIPPED,
    ShipmentStatus.IN_TRANSIT: OrderStatus.SHIPPED,
    ShipmentStatus.OUT_FOR_DELIVERY: OrderStatus.SHIPPED,
    ShipmentStatus.DELIVERED: OrderStatus.DELIVERED,
}


async def _react(session: AsyncSession, events: Sequence[E], reaction: Reaction[E]) -> None:
    """Applies each event to its order; an order that is not ours makes the event invalid."""
    orders = await store.lock(session, (event.order_id for event in events))
    now = datetime.now(UTC)
    reactions = [reaction(orders[event.order_id], event, now) for event in events]
    await append(session, *filter(None, reactions))


async def note_reservation(session: AsyncSession, events: Sequence[StockReserved]) -> None:
    def reaction(order: Order, event: StockReserved, now: datetime) -> None:
        order.note_reservation(event.occurred_at, now)

    await _react(session, events, reaction)


async def cancel_out_of_stock(session: AsyncSession, events: Sequence[StockRejected]) -> None:
    await _react(session, events, lambda order, _, now: order.give_up(_OUT_OF_STOCK, now))


async def start_processing(session: AsyncSession, events: Sequence[PaymentSucceeded]) -> None:
    def reaction(order: Order, event: PaymentSucceeded, now: datetime) -> OrderEvent | None:
        order.payment_id = event.payment_id
        return order.follow(OrderStatus.PROCESSING, now, "paid")

    await _react(session, events, reaction)


async def cancel_unpaid(session: AsyncSession, events: Sequence[PaymentFailed]) -> None:
    def reaction(order: Order, event: PaymentFailed, now: datetime) -> OrderEvent | None:
        order.payment_id = event.payment_id
        return order.give_up(CancellationReason.PAYMENT_FAILED, now)

    await _react(session, events, reaction)


async def note_refund(session: AsyncSession, events: Sequence[PaymentRefunded]) -> None:
    def reaction(order: Order, event: PaymentRefunded, _: datetime) -> None:
        order.refunded = max(order.refunded, event.refunded_total)

    await _react(session, events, reaction)


async def note_tracking_number(session: AsyncSession, events: Sequence[ShipmentCreated]) -> None:
    def reaction(order: Order, event: ShipmentCreated, _: datetime) -> None:
        order.tracking_number = event.tracking_number

    await _react(session, events, reaction)


async def follow_parcel(session: AsyncSession, events: Sequence[ShipmentUpdated]) -> None:
    def reaction(order: Order, event: ShipmentUpdated, now: datetime) -> OrderEvent | None:
        order.tracking_number = event.tracking_number
        status = PARCEL_TO_ORDER.get(event.status)
        if status is None:
            return None
        return order.follow(status, now, event.description or event.status)

    await _react(session, events, reaction)


async def finish_cancellation(session: AsyncSession, events: Sequence[ShipmentVoided]) -> None:
    await _react(session, events, lambda order, _, now: order.cancel_voided(now))


_OUT_OF_STOCK = CancellationReason.OUT_OF_STOCK

subscriptions: Subscriptions = {
    StockReserved: note_reservation,
    StockRejected: cancel_out_of_stock,
    PaymentSucceeded: start_processing,
    PaymentFailed: cancel_unpaid,
    PaymentRefunded: note_refund,
    ShipmentCreated: note_tracking_number,
    ShipmentUpdated: follow_parcel,
    ShipmentVoided: finish_cancellation,
    ProductUpdated: forget_products,
}
