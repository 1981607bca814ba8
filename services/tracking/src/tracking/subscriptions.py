"""Events in: where a parcel goes, when it is wanted, and whether it still is."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

import structlog
from chassis.consumer import Subscriptions
from chassis.event_log import append
from contracts.orders import (
    OrderCancellationRequested,
    OrderCancelled,
    OrderCreated,
    OrderStatus,
    OrderStatusChanged,
)
from contracts.tracking import ShipmentEvent
from sqlalchemy.ext.asyncio import AsyncSession

from tracking import store
from tracking.domain import Shipment
from tracking.store import Facts

log = structlog.get_logger(__name__)

Reaction = Callable[[Shipment, datetime], ShipmentEvent | None]


async def _react(session: AsyncSession, facts: Iterable[Facts], reaction: Reaction) -> None:
    now = datetime.now(UTC)
    shipments = await store.learn(session, facts)
    await append(session, *filter(None, (reaction(shipment, now) for shipment in shipments)))


async def learn_where(session: AsyncSession, events: Sequence[OrderCreated]) -> None:
    facts = (
        Facts(e.order_id, e.user_id, shipping_address=e.shipping_address.model_dump())
        for e in events
    )
    await _react(session, facts, Shipment.supply)


async def learn_when(session: AsyncSession, events: Sequence[OrderStatusChanged]) -> None:
    facts = (
        Facts(e.order_id, e.user_id, is_wanted=True)
        for e in events
        if e.status == OrderStatus.PROCESSING
    )
    await _react(session, facts, Shipment.supply)


async def decide_cancellation(
    session: AsyncSession, events: Sequence[OrderCancellationRequested]
) -> None:
    facts = (Facts(event.order_id, event.user_id) for event in events)
    await _react(session, facts, Shipment.stop)


async def never_ship(session: AsyncSession, events: Sequence[OrderCancelled]) -> None:
    def reaction(shipment: Shipment, now: datetime) -> ShipmentEvent | None:
        if shipment.is_on_its_way:
            # Nothing here can bring it back; a human has to.
            log.warning("cancelled_order_is_on_its_way", order_id=str(shipment.order_id))
        return shipment.forget(now)

    await _react(session, (Facts(event.order_id, event.user_id) for event in events), reaction)


subscriptions: Subscriptions = {
    OrderCreated: learn_where,
    OrderStatusChanged: learn_when,
    OrderCancellationRequested: decide_cancellation,
    OrderCancelled: never_ship,
}
