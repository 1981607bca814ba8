"""Events that `notifications` consumes: whom it knows, and what it queues."""

from collections.abc import Callable
from itertools import permutations
from typing import Any
from uuid import UUID, uuid4

import pytest
from chassis.database import database
from chassis.testing import Delivered, as_entry, dead_letters
from contracts import Event
from contracts.inventory import LowStock
from contracts.orders import OrderCancelled, OrderCreated, OrderStatusChanged
from contracts.payments import PaymentRefunded, PaymentSucceeded
from contracts.tracking import ShipmentCreated
from contracts.users import UserDeleted, UserRegistered, UserUpdated
from notifications.domain import Contact, Notification
from sqlalchemy import select

pytestmark = pytest.mark.usefixtures("db")


async def queue() -> list[Notification]:
    async with database.transaction() as session:
        query = select(Notification).order_by(Notification.dedupe_key)
        return list(await session.scalars(query))


async def contacts() -> dict[UUID, Contact]:
    async with database.transaction() as session:
        return {contact.user_id: contact for contact in await session.scalars(select(Contact))}


@pytest.mark.parametrize(
    ("event", "template"),
    [
        (UserRegistered, "welcome"),
        (OrderCreated, "order_confirmed"),
        (PaymentSucceeded, "payment_received"),
        (ShipmentCreated, "shipment_created"),
        (OrderStatusChanged, "order_shipped"),
        (OrderCancelled, "order_cancelled"),
        (PaymentRefunded, "refund_issued"),
        (LowStock, "low_stock"),
    ],
)
async def test_a_happening_is_told_once_even_if_reported_under_new_ids(
    deliver: Delivered, make: Callable[..., Any], event: type[Event], template: str
) -> None:
    await deliver(make(event))
    await deliver(make(event), make(event))

    [notification] = await queue()
    assert (notification.template, notification.status) == (template, "pending")


async def test_steps_that_have_no_mail_queue_none(
    deliver: Delivered, make: Callable[..., Any]
) -> None:
    await deliver(make(OrderStatusChanged, status="processing"))

    assert await queue() == []


async def test_different_happenings_of_one_batch_are_each_told(
    deliver: Delivered, make: Callable[..., Any]
) -> None:
    orders = [uuid4() for _ in range(20)]

    await deliver(*(make(OrderCreated, order_id=order_id) for order_id in orders))

    assert {notification.order_id for notification in await queue()} == set(orders)


async def test_a_notification_continues_the_trace_of_its_event(
    deliver: Delivered, make: Callable[..., Any]
) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    data = make(OrderCreated).model_dump(mode="json")

    await deliver.raw("order.created", [as_entry("order.created", data, producertrace=trace)])

    [notification] = await queue()
    assert notification.trace_parent == trace


async def test_what_is_queued_identifies_nobody(
    deliver: Delivered, make: Callable[..., Any]
) -> None:
    address = {"line1": "1 Long Lane", "city": "Oslo", "postal_code": "0150", "country": "NO"}
    await deliver(make(UserRegistered))
    await deliver(make(OrderCreated, shipping_address=address))

    params = str([notification.params for notification in await queue()])
    assert not {"Ada", "ada@example.org", "1 Long Lane", "pm_card_ok"} & set(params.split("'"))


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_the_newest_profile_wins_in_any_order(
    deliver: Delivered, make: Callable[..., Any], order: tuple[int, ...]
) -> None:
    profiles = [
        make(UserRegistered, user_version=1),
        make(UserUpdated, user_version=2, email="between@example.org"),
        make(UserUpdated, user_version=3, email="new@example.org", email_notifications=False),
    ]

    for n in order:
        await deliver(profiles[n])

    [contact] = (await contacts()).values()
    assert (contact.email, contact.email_notifications) == ("new@example.org", False)


async def test_the_newest_profile_wins_within_a_batch(
    deliver: Delivered, make: Callable[..., Any]
) -> None:
    other = uuid4()
    await deliver(
        make(UserUpdated, user_version=3, name="Ada Third"),
        make(UserUpdated, user_version=2, name="Ada Second"),
        make(UserUpdated, user_id=other, name="Bob"),
    )

    assert {contact.name for contact in (await contacts()).values()} == {"Ada Third", "Bob"}


async def test_a_deleted_user_is_erased_and_stays_so(
    deliver: Delivered, make: Callable[..., Any]
) -> None:
    await deliver(make(UserRegistered))
    await deliver(make(UserDeleted))
    await deliver(make(UserUpdated, user_version=9))

    [contact] = (await contacts()).values()
    assert (contact.email, contact.name) == (None, None)


async def test_a_deletion_that_overtakes_the_registration_holds(
    deliver: Delivered, make: Callable[..., Any]
) -> None:
    await deliver(make(UserDeleted), make(UserDeleted))
    await deliver(make(UserRegistered))

    [contact] = (await contacts()).values()
    assert (contact.email, contact.name) == (None, None)


async def test_an_event_that_cannot_be_kept_does_not_hold_up_its_neighbours(
    deliver: Delivered, make: Callable[..., Any]
) -> None:
    good, poison = make(UserRegistered, user_id=uuid4()), make(UserRegistered, name="Ada\0")
    entries = [as_entry(e.topic, e.model_dump(mode="json")) for e in (poison, good)]

    assert await deliver.raw("user.registered", entries) == ["SUCCESS", "SUCCESS"]

    assert list(await contacts()) == [good.user_id]
    assert len(await dead_letters()) == 1
