"""Events in: every event moves the read model and is a line of the feed."""

from collections.abc import Sequence

from chassis.consumer import Subscriptions
from contracts import ALL_EVENTS
from contracts.catalog import ProductUpdated
from contracts.inventory import LowStock
from sqlalchemy.ext.asyncio import AsyncSession

from dashboard import store
from dashboard.domain import facts_of
from dashboard.feed import AnyEvent, entry_of


async def project(session: AsyncSession, events: Sequence[AnyEvent]) -> None:
    await store.merge_orders(session, [facts for event in events if (facts := facts_of(event))])
    await store.append_to_feed(session, [entry_of(event) for event in events])
    await store.announce_change(session)


async def note_products(session: AsyncSession, events: Sequence[ProductUpdated]) -> None:
    await store.replace_products(session, events)
    await project(session, events)


async def note_low_stock(session: AsyncSession, events: Sequence[LowStock]) -> None:
    await store.replace_alerts(session, events)
    await project(session, events)


subscriptions: Subscriptions = {
    **dict.fromkeys(ALL_EVENTS, project),
    ProductUpdated: note_products,
    LowStock: note_low_stock,
}
