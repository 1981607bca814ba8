"""Events in: what orders need from stock, and which products there are."""

from collections.abc import Sequence

from chassis.consumer import Subscriptions
from contracts.catalog import ProductUpdated
from contracts.orders import OrderCancelled, OrderCreated, OrderStatus, OrderStatusChanged
from sqlalchemy.ext.asyncio import AsyncSession

from inventory import store, use_cases
from inventory.domain import Demand

# Either may be the first that arrives here.
LEFT_THE_WAREHOUSE = frozenset({OrderStatus.SHIPPED, OrderStatus.DELIVERED})


async def reserve_stock(session: AsyncSession, events: Sequence[OrderCreated]) -> None:
    await use_cases.reserve(session, {event.order_id: Demand.of(event) for event in events})


async def release_stock(session: AsyncSession, events: Sequence[OrderCancelled]) -> None:
    await use_cases.release(session, {event.order_id for event in events})


async def dispatch_stock(session: AsyncSession, events: Sequence[OrderStatusChanged]) -> None:
    shipped = {event.order_id for event in events if event.status in LEFT_THE_WAREHOUSE}
    if shipped:
        await use_cases.dispatch(session, shipped)


async def make_known(session: AsyncSession, events: Sequence[ProductUpdated]) -> None:
    await store.add_skus(session, (event.sku for event in events))


subscriptions: Subscriptions = {
    OrderCreated: reserve_stock,
    OrderCancelled: release_stock,
    OrderStatusChanged: dispatch_stock,
    ProductUpdated: make_known,
}
