"""What customers and staff do with orders."""

from datetime import UTC, datetime
from uuid import UUID

from chassis.event_log import append
from chassis.problems import NotFound
from contracts.orders import OrderEvent, OrderStatus
from prometheus_client import Counter
from sqlalchemy import ColumnElement, true
from sqlalchemy.ext.asyncio import AsyncSession

from orders import store
from orders.domain import Draft, Order, place

ORDERS_CREATED = Counter("orders_created_total", "Orders placed.")


class OrderNotFound(NotFound):
    pass


async def get_order(
    session: AsyncSession, order_id: UUID, visible: ColumnElement[bool], *, lock: bool = False
) -> Order:
    """Raises `OrderNotFound` for an order that is not visible, as for one that is not there."""
    order = await store.find(session, order_id, visible, lock=lock)
    if order is None:
        raise OrderNotFound(f"There is no order {order_id}.")
    return order


async def place_order(session: AsyncSession, draft: Draft) -> Order:
    order, created = place(draft, datetime.now(UTC))
    session.add(order)
    await append(session, created)
    ORDERS_CREATED.inc()
    return order


async def cancel_order(
    session: AsyncSession, order_id: UUID, visible: ColumnElement[bool]
) -> Order:
    """Cancels, or asks tracking to; raises `OrderNotFound` or `OrderAlreadyShipped`."""
    order = await get_order(session, order_id, visible, lock=True)
    if event := order.request_cancellation(datetime.now(UTC)):
        await append(session, event)
    return order


async def set_status(session: AsyncSession, order_id: UUID, status: OrderStatus) -> Order:
    """Staff move an order by hand; raises `IllegalTransition` or `OrderAlreadyShipped`.

    What it is already it stays, so that the request may be repeated. Staff cannot cancel past
    tracking either: the parcel may just have left.
    """
    order = await get_order(session, order_id, true(), lock=True)
    if order.status != status and (event := _move(order, status, datetime.now(UTC))):
        await append(session, event)
    return order


def _move(order: Order, status: OrderStatus, now: datetime) -> OrderEvent | None:
    if status in {OrderStatus.CANCELLED, OrderStatus.CANCELLING}:
        return order.request_cancellation(now)
    return order.advance(status, now, "set by staff")
