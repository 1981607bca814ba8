"""How events move the read model, whatever the order they come in."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from chassis.database import database
from chassis.testing import Delivered, as_entry, dead_letters
from contracts import ALL_EVENTS, Event
from contracts.catalog import ProductUpdated
from contracts.inventory import LowStock, StockReserved
from contracts.orders import (
    Address,
    CancellationReason,
    OrderCancellationRequested,
    OrderCancelled,
    OrderCreated,
    OrderLine,
    OrderStatus,
    OrderStatusChanged,
)
from contracts.payments import PaymentRefunded, PaymentSucceeded
from contracts.tracking import ShipmentCreated, ShipmentVoided
from contracts.users import UserLoggedIn
from dashboard import store
from dashboard.domain import OrderFacts
from dashboard.snapshot import journey_of
from dashboard.subscriptions import subscriptions
from dashboard.tables import FeedLine, OrderSummary, SkuSummary
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
USER = uuid4()


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def created(order_id: UUID) -> OrderCreated:
    return OrderCreated(
        order_id=order_id,
        order_version=1,
        user_id=USER,
        occurred_at=START,
        lines=(OrderLine(sku="LAMP", name="Desk lamp", quantity=2, unit_price=4_900),),
        total=9_800,
        currency="EUR",
        shipping_address=Address(
            line1="1 Long Lane", city="Oslo", postal_code="0150", country="NO"
        ),
        payment_method="pm_card_ok",
    )


def moved(
    order_id: UUID, version: int, before: OrderStatus, now: OrderStatus
) -> OrderStatusChanged:
    return OrderStatusChanged(
        order_id=order_id,
        order_version=version,
        user_id=USER,
        occurred_at=after(version),
        status=now,
        previous_status=before,
    )


def of_order(order_id: UUID, seconds: float, **fields: Any) -> dict[str, Any]:
    return {"order_id": order_id, "user_id": USER, "occurred_at": after(seconds), **fields}


def paid(order_id: UUID) -> dict[str, Any]:
    return of_order(order_id, 1.5, payment_id=uuid4(), amount=9_800, currency="EUR")


def delivered_order(order_id: UUID) -> list[Event]:
    s = OrderStatus
    return [
        created(order_id),
        StockReserved(order_id=order_id, occurred_at=after(1), lines=()),
        PaymentSucceeded(**paid(order_id)),
        moved(order_id, 2, s.PENDING, s.PROCESSING),
        ShipmentCreated(**of_order(order_id, 2.5, shipment_id=uuid4(), tracking_number="WB1")),
        moved(order_id, 3, s.PROCESSING, s.SHIPPED),
        moved(order_id, 4, s.SHIPPED, s.DELIVERED),
    ]


def cancelled_order(order_id: UUID) -> list[Event]:
    requested = of_order(order_id, 3, order_version=3)
    cancelled = of_order(order_id, 4, order_version=4, total=9_800, currency="EUR")
    refund: dict[str, Any] = {"refund_id": uuid4(), "refunded_total": 9_800}
    return [
        *delivered_order(order_id)[:5],
        OrderCancellationRequested(**requested),
        ShipmentVoided(**of_order(order_id, 3.5)),
        OrderCancelled(**cancelled, reason=CancellationReason.REQUESTED),
        PaymentRefunded(**paid(order_id), **refund),
    ]


async def project(events: Sequence[Event]) -> None:
    """Each event in a batch of its own, as topics are consumed independently."""
    for event in events:
        async with database.transaction() as session:
            await subscriptions[type(event)](session, [event])


async def known_of(order_id: UUID) -> OrderFacts:
    async with database.transaction() as session:
        row = await session.get_one(OrderSummary, order_id)
        return OrderFacts(*(getattr(row, name) for name in OrderFacts._fields))


async def steps_of(order_id: UUID) -> list[str]:
    async with database.transaction() as session:
        journey = await journey_of(session, order_id)
    return [step.phrase for step in journey.steps] if journey else []


LIVES = st.sampled_from([delivered_order, cancelled_order])


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(life=LIVES, data=st.data())
async def test_any_order_of_events_with_any_repeats_gives_the_same_row(
    db: AsyncConnection, life: Any, data: st.DataObject
) -> None:
    tidy, messy = uuid4(), uuid4()
    events = life(messy)
    repeats = data.draw(st.lists(st.sampled_from(events), max_size=6))
    shuffled = data.draw(st.permutations([*events, *repeats]))

    await project(life(tidy))
    await project(shuffled)

    assert await known_of(messy) == (await known_of(tidy))._replace(order_id=messy)
    assert sorted(await steps_of(messy)) == sorted(await steps_of(tidy))


async def test_a_batch_may_tell_of_one_order_several_times(
    deliver: Delivered, db: AsyncConnection
) -> None:
    events = [event for event in delivered_order(uuid4()) if isinstance(event, OrderStatusChanged)]

    await deliver(*reversed(events))

    assert (await known_of(events[0].order_id)).status == OrderStatus.DELIVERED


async def test_a_cancelled_order_stays_cancelled_whatever_is_heard_afterwards(
    deliver: Delivered, db: AsyncConnection
) -> None:
    order_id = uuid4()
    for event in [*reversed(cancelled_order(order_id)), created(order_id)]:
        await deliver(event)

    known = await known_of(order_id)

    assert (known.status, known.version) == (OrderStatus.CANCELLED, 4)
    assert known.paid - known.refunded == 0


async def test_an_order_of_which_only_the_payment_was_heard_is_pending(
    deliver: Delivered, db: AsyncConnection
) -> None:
    order_id = uuid4()

    await deliver(PaymentSucceeded(**paid(order_id)))

    known = await known_of(order_id)
    assert (known.status, known.paid, known.placed_at) == (OrderStatus.PENDING, 9_800, None)


async def test_an_event_published_again_is_one_step_of_the_journey(
    deliver: Delivered, db: AsyncConnection
) -> None:
    order_id = uuid4()

    await deliver(created(order_id))
    await deliver(created(order_id))

    assert await steps_of(order_id) == ["Order placed: 2 items"]


async def test_every_topic_is_taken_and_none_of_it_is_refused(
    deliver: Delivered, db: AsyncConnection
) -> None:
    assert set(subscriptions) == set(ALL_EVENTS)

    await deliver(UserLoggedIn(user_id=USER, occurred_at=START))
    await deliver(*(created(uuid4()) for _ in range(100)))

    async with database.transaction() as session:
        assert await session.scalar(select(func.count()).select_from(FeedLine)) == 101
    assert await dead_letters() == []


async def test_what_is_no_event_is_recorded_and_holds_nothing_up(
    deliver: Delivered, db: AsyncConnection
) -> None:
    order_id = uuid4()
    good = as_entry(OrderCreated.topic, created(order_id).model_dump(mode="json"))
    bad = as_entry(OrderCreated.topic, {"order_id": "none"})

    assert await deliver.raw(OrderCreated.topic, [bad, good]) == ["SUCCESS", "SUCCESS"]

    assert len(await dead_letters()) == 1
    assert (await known_of(order_id)).total == 9_800


def low(available: int, seconds: float) -> LowStock:
    return LowStock(sku="LAMP", available=available, threshold=10, occurred_at=after(seconds))


async def test_the_latest_warning_of_a_sku_counts_even_if_it_comes_first(
    deliver: Delivered, db: AsyncConnection
) -> None:
    await deliver(low(3, 20))
    await deliver(low(8, 10))

    async with database.transaction() as session:
        lamp = await session.get_one(SkuSummary, "LAMP")
    assert (lamp.available, lamp.threshold, lamp.name) == (3, 10, None)


async def test_a_product_keeps_the_name_of_its_highest_version(
    deliver: Delivered, db: AsyncConnection
) -> None:
    fields: dict[str, Any] = {
        "sku": "LAMP",
        "category": "home",
        "price": 4_900,
        "currency": "EUR",
        "active": True,
        "occurred_at": START,
    }
    await deliver(low(3, 20))
    await deliver(ProductUpdated(**fields, product_version=2, name="Desk lamp"))
    await deliver(ProductUpdated(**fields, product_version=1, name="Lamp"))

    async with database.transaction() as session:
        lamp = await session.get_one(SkuSummary, "LAMP")
    assert (lamp.name, lamp.available) == ("Desk lamp", 3)


async def test_the_feed_is_trimmed_to_the_newest_lines(
    deliver: Delivered, db: AsyncConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "FEED_LINES_KEPT", 2)
    orders = [uuid4() for _ in range(5)]
    await deliver(*map(created, orders))

    async with database.transaction() as session:
        assert await store.trim_feed(session) == 3
        assert await store.trim_feed(session) == 0
        left = await session.scalars(select(FeedLine.order_id).order_by(FeedLine.sequence))

    assert list(left) == orders[3:]
