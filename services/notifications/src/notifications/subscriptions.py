"""Events in: who can be reached, and what there is to tell."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from chassis.consumer import Handler, Subscriptions
from chassis.database import on_commit
from chassis.event_log import traces_by_key
from contracts import Event
from contracts.inventory import LowStock
from contracts.orders import OrderCancelled, OrderCreated, OrderStatusChanged
from contracts.payments import PaymentRefunded, PaymentSucceeded
from contracts.tracking import ShipmentCreated
from contracts.users import UserDeleted, UserProfileEvent, UserRegistered, UserUpdated
from sqlalchemy.ext.asyncio import AsyncSession

from notifications import domain, store
from notifications.domain import Message
from notifications.sending import sender

E = TypeVar("E", bound=Event)


def tell(compose: Callable[[E], Message | None]) -> Handler:
    """A handler that queues the message of each event that has one."""

    async def handle(session: AsyncSession, events: Sequence[E]) -> None:
        traces = traces_by_key.get()
        told = [(message, traces.get(e.key)) for e in events if (message := compose(e))]
        if told:
            messages = {message.dedupe_key: message for message, _ in told}
            await store.enqueue(session, messages, {m.dedupe_key: trace for m, trace in told})
            on_commit(session, sender.wake)

    return handle


async def welcome_user(session: AsyncSession, events: Sequence[UserRegistered]) -> None:
    await keep_contacts(session, events)
    await tell(domain.welcome)(session, events)


async def keep_contacts(session: AsyncSession, events: Sequence[UserProfileEvent]) -> None:
    """What was waiting for a contact can go out now."""
    await store.keep_contacts(session, events)
    on_commit(session, sender.wake)


async def forget_contacts(session: AsyncSession, events: Sequence[UserDeleted]) -> None:
    await store.forget_contacts(session, (event.user_id for event in events))


subscriptions: Subscriptions = {
    UserRegistered: welcome_user,
    UserUpdated: keep_contacts,
    UserDeleted: forget_contacts,
    OrderCreated: tell(domain.order_confirmed),
    OrderStatusChanged: tell(domain.order_progressed),
    OrderCancelled: tell(domain.order_cancelled),
    PaymentSucceeded: tell(domain.payment_received),
    PaymentRefunded: tell(domain.refund_issued),
    ShipmentCreated: tell(domain.shipment_created),
    LowStock: tell(domain.low_stock),
}
