"""Events in: what to charge, when, and what not to; in any order."""

from collections.abc import Sequence
from typing import Any

from chassis.consumer import Subscriptions
from chassis.event_log import traces_by_key
from contracts import Event
from contracts.inventory import StockReserved
from contracts.orders import OrderCancelled, OrderCreated
from sqlalchemy.ext.asyncio import AsyncSession

from payments import use_cases


async def note_what_to_charge(session: AsyncSession, events: Sequence[OrderCreated]) -> None:
    await use_cases.add_facts(
        session,
        [
            {
                "order_id": event.order_id,
                "user_id": event.user_id,
                "amount": event.total,
                "currency": event.currency,
                "payment_method": event.payment_method,
                **_stamp(event),
            }
            for event in events
        ],
    )


async def charge_reserved(session: AsyncSession, events: Sequence[StockReserved]) -> None:
    facts = [
        {"order_id": event.order_id, "reserved_at": event.occurred_at, **_stamp(event)}
        for event in events
    ]
    await use_cases.add_facts(session, facts)


async def undo_cancelled(session: AsyncSession, events: Sequence[OrderCancelled]) -> None:
    facts = [
        {"order_id": event.order_id, "cancelled_at": event.occurred_at, **_stamp(event)}
        for event in events
    ]
    await use_cases.undo(session, facts)


def _stamp(event: Event) -> dict[str, Any]:
    return {"trace_parent": traces_by_key.get().get(event.key)}


subscriptions: Subscriptions = {
    OrderCreated: note_what_to_charge,
    StockReserved: charge_reserved,
    OrderCancelled: undo_cancelled,
}
