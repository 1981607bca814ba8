"""Orders that wait: for money until their deadline, for a service until it is asked again."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from chassis.database import database
from chassis.event_log import append
from chassis.tables import LoggedEvent
from chassis.testing import logged
from contracts.orders import (
    Address,
    OrderCancellationRequested,
    OrderCancelled,
    OrderCreated,
    OrderEvent,
    OrderLine,
    OrderStatus,
    OrderStatusChanged,
)
from orders import deadlines
from orders.deadlines import expire_unpaid, prompt_stalled
from orders.domain import Draft, HistoryEntry, Order, place
from orders.settings import orders_settings
from prometheus_client import REGISTRY
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

DEADLINE = orders_settings().payment_deadline
STALL = orders_settings().stall
INSTANT = timedelta(seconds=5)
PATH = {
    "pending": (),
    "processing": (OrderStatus.PROCESSING,),
    "cancelling": (OrderStatus.PROCESSING, OrderStatus.CANCELLING),
    "shipped": (OrderStatus.PROCESSING, OrderStatus.SHIPPED),
    "cancelled": (OrderStatus.CANCELLED,),
}


async def placed(count: int = 1, status: str = "pending", *, age: timedelta) -> Sequence[Order]:
    """Orders that were placed, and came to their status, that long ago."""
    then = datetime.now(UTC) - age
    address = Address(line1="1", city="O", postal_code="1", country="NO")
    lines = (OrderLine(sku="LAMP", name="Lamp", quantity=1, unit_price=100),)
    orders: list[Order] = []
    events: list[OrderEvent] = []
    for _ in range(count):
        order, created = place(Draft(uuid4(), lines, "EUR", address, "pm_card_ok"), then)
        events += [created, *(_moved(order, step, then) for step in PATH[status])]
        orders.append(order)
    async with database.transaction() as session:
        session.add_all(orders)
        await append(session, *events)
    return orders


def _moved(order: Order, status: OrderStatus, now: datetime) -> OrderEvent:
    if status in {OrderStatus.CANCELLING, OrderStatus.CANCELLED}:
        event = order.request_cancellation(now)
        assert event
        return event
    return order.advance(status, now, "moved")


async def read(order: Order) -> Order:
    async with database.transaction() as session:
        return (await session.scalars(select(Order).where(Order.id == order.id))).one()


async def change(order: Order, **values: Any) -> None:
    async with database.transaction() as session:
        await session.execute(update(Order).where(Order.id == order.id).values(values))


async def told(order: Order) -> list[tuple[str, UUID, Any]]:
    """What the log holds of an order, oldest first."""
    query = select(LoggedEvent).where(LoggedEvent.key == str(order.id))
    async with database.transaction() as session:
        events = await session.scalars(query.order_by(LoggedEvent.sequence))
        return [(event.topic, event.id, event.payload) for event in events]


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0


@pytest.mark.usefixtures("db")
async def test_an_order_nobody_paid_by_its_deadline_is_cancelled() -> None:
    before = counted("orders_expired_total")
    [order] = await placed(age=DEADLINE)
    await expire_unpaid()
    await expire_unpaid()

    ended = await read(order)
    assert (ended.status, ended.cancellation_reason) == ("cancelled", "payment_expired")
    assert ended.version == 2
    [cancelled] = await logged(OrderCancelled)
    assert (cancelled.order_id, cancelled.reason) == (order.id, "payment_expired")
    assert counted("orders_expired_total") == before + 1
    async with database.transaction() as session:
        [_, entry] = await session.scalars(
            select(HistoryEntry)
            .where(HistoryEntry.order_id == order.id)
            .order_by(HistoryEntry.version)
        )
    assert (entry.status, entry.note) == ("cancelled", "payment expired")


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(
    ("status", "age"),
    [
        ("pending", DEADLINE - INSTANT),
        ("processing", DEADLINE * 2),
        ("cancelling", DEADLINE * 2),
        ("shipped", DEADLINE * 2),
    ],
)
async def test_an_order_in_time_or_paid_does_not_expire(status: str, age: timedelta) -> None:
    [order] = await placed(status=status, age=age)
    await expire_unpaid()
    assert (await read(order)).status == status
    assert await logged(OrderCancelled) == []


@pytest.mark.usefixtures("db")
async def test_a_reservation_gives_no_more_time_to_pay() -> None:
    [order] = await placed(age=DEADLINE)
    await change(order, updated_at=datetime.now(UTC), stock_reserved_at=datetime.now(UTC))
    await expire_unpaid()
    assert (await read(order)).status == "cancelled"


@pytest.mark.usefixtures("db")
async def test_one_tick_expires_batch_after_batch_the_oldest_first_and_stops_at_its_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deadlines, "BATCH", 2)
    monkeypatch.setattr(deadlines, "MOST_BATCHES", 2)
    orders = await placed(5, age=DEADLINE)

    await expire_unpaid()
    assert [(await read(order)).status for order in orders] == ["cancelled"] * 4 + ["pending"]
    await expire_unpaid()
    assert (await read(orders[4])).status == "cancelled"


async def test_replicas_at_once_expire_and_prompt_each_order_once(
    concurrent_db: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "BATCH", 10)
    await placed(50, age=DEADLINE)
    await placed(50, "processing", age=STALL)

    async with asyncio.timeout(30):
        await asyncio.gather(
            *(expire_unpaid() for _ in range(3)), *(prompt_stalled() for _ in range(3))
        )
    await expire_unpaid()
    await prompt_stalled()

    assert len(await logged(OrderCancelled)) == 50
    assert len(await logged(OrderStatusChanged)) == 100
    async with database.transaction() as session:
        prompts = select(func.max(Order.prompts)).where(Order.status == "processing")
        assert await session.scalar(prompts) == 1


async def test_an_order_that_a_customer_is_cancelling_is_left_to_the_next_tick(
    concurrent_db: AsyncEngine,
) -> None:
    held, free = await placed(2, age=DEADLINE)
    async with database.transaction() as session:
        await session.get(Order, held.id, with_for_update=True)
        async with asyncio.timeout(5):
            await expire_unpaid()
            await prompt_stalled()
        assert (await read(free)).status == "cancelled"
        assert (await read(held)).status == "pending"


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(
    ("status", "again"),
    [
        ("pending", [OrderCreated]),
        ("processing", [OrderCreated, OrderStatusChanged]),
        ("cancelling", [OrderCancellationRequested]),
    ],
)
async def test_a_stalled_order_tells_again_what_is_to_be_acted_on(
    status: str, again: list[type[OrderEvent]]
) -> None:
    before = counted("orders_prompted_total", status=status)
    [order] = await placed(status=status, age=STALL)
    first = await told(order)
    await prompt_stalled()
    await prompt_stalled()

    repeated = (await told(order))[len(first) :]
    assert [topic for topic, _, _ in repeated] == [event.topic for event in again]
    payloads = {topic: payload for topic, _, payload in first}
    assert all(payload == payloads[topic] for topic, _, payload in repeated)
    assert len({event_id for _, event_id, _ in first + repeated}) == len(first) + len(repeated)
    assert counted("orders_prompted_total", status=status) == before + 1


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(
    ("status", "age", "changes"),
    [
        ("pending", STALL - INSTANT, {}),
        ("processing", STALL * 2, {"tracking_number": "WB1"}),
        ("shipped", STALL * 2, {}),
        ("cancelled", STALL * 2, {}),
    ],
)
async def test_an_order_that_waits_for_no_service_or_not_for_long_is_not_prompted(
    status: str, age: timedelta, changes: dict[str, Any]
) -> None:
    [order] = await placed(status=status, age=age)
    await change(order, prompts=0, **changes)
    before = await told(order)
    await prompt_stalled()
    assert await told(order) == before


@pytest.mark.usefixtures("db")
async def test_prompts_come_less_and_less_often_and_never_cease() -> None:
    [order] = await placed(age=STALL * 60)
    for given, pause in enumerate([1, 2, 4, 8, 15, 15, 15]):
        waited_since = datetime.now(UTC) - STALL * pause
        await change(order, prompted_at=waited_since + INSTANT)
        await prompt_stalled()
        assert (await read(order)).prompts == given
        await change(order, prompted_at=waited_since)
        await prompt_stalled()
        assert (await read(order)).prompts == given + 1


@pytest.mark.usefixtures("db")
async def test_an_order_that_came_on_waits_anew() -> None:
    [order] = await placed(age=STALL)
    await prompt_stalled()
    async with database.transaction() as session:
        locked = await session.get_one(Order, order.id, with_for_update=True)
        await append(session, locked.advance(OrderStatus.PROCESSING, datetime.now(UTC), "paid"))

    waiting = await read(order)
    assert (waiting.prompts, waiting.prompted_at) == (0, None)
    before = await told(order)
    await prompt_stalled()
    assert await told(order) == before


@pytest.mark.usefixtures("db")
async def test_one_tick_prompts_batch_after_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "BATCH", 2)
    await placed(5, age=STALL)
    await prompt_stalled()
    assert len(await logged(OrderCreated)) == 10
