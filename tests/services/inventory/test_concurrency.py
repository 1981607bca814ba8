"""Batches that run at the same time: none sells what another has promised, none deadlocks."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from chassis.database import database
from chassis.identity import Role
from chassis.testing import Delivered, as_entry, bearer, logged
from contracts import Event
from contracts.inventory import StockRejected, StockReleased, StockReserved
from contracts.orders import OrderStatus
from fastapi import FastAPI
from inventory import store
from inventory.app import app as inventory_app
from inventory.domain import Stock, Warehouse
from sqlalchemy import event, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

BATCH = 50


@pytest.fixture
async def seed(engine: AsyncEngine) -> AsyncIterator[None]:
    """Brings back what the migration put in, after the tables were emptied."""
    yield
    async with AsyncSession(engine) as session, session.begin():
        session.add(Warehouse(name="main"))


@pytest.fixture
def app(seed: None, concurrent_db: object) -> FastAPI:
    return inventory_app


async def _deliver_at_once(
    deliver: Delivered, events: Sequence[Event], size: int = BATCH
) -> set[str]:
    """Batches of mixed events, all at the same time; the statuses that came back."""
    batches = [events[start : start + size] for start in range(0, len(events), size)]
    outcomes = await asyncio.gather(*(_deliver_by_topic(deliver, batch) for batch in batches))
    return {status for statuses in outcomes for status in statuses}


async def _deliver_by_topic(deliver: Delivered, events: Sequence[Event]) -> list[str]:
    topics = {event.topic for event in events}
    replies = await asyncio.gather(
        *(
            deliver.raw(
                topic,
                [as_entry(topic, e.model_dump(mode="json")) for e in events if e.topic == topic],
            )
            for topic in topics
        )
    )
    return [status for statuses in replies for status in statuses]


async def test_five_hundred_buyers_of_one_lamp_get_exactly_what_there_is(
    deliver: Delivered, orders: Any, stocked: Any, shelf_of: Any
) -> None:
    await stocked("main", LAMP=120)
    buyers = [orders.created(LAMP=1) for _ in range(500)]

    assert await _deliver_at_once(deliver, buyers) == {"SUCCESS"}

    assert len(await logged(StockReserved)) == 120
    assert len(await logged(StockRejected)) == 380
    assert await shelf_of("LAMP") == (120, 0, 120, 0)


async def test_batches_with_overlapping_skus_do_not_deadlock(
    deliver: Delivered, orders: Any, stocked: Any
) -> None:
    chance = random.Random(7)
    skus = [f"SKU-{number}" for number in range(40)]
    await stocked("main", **dict.fromkeys(skus, 20))
    await stocked("north", **dict.fromkeys(skus, 12))
    created = [orders.created(**_basket(chance, skus)) for _ in range(400)]

    assert await _deliver_at_once(deliver, created, size=10) == {"SUCCESS"}

    answered = [*(await logged(StockReserved)), *(await logged(StockRejected))]
    assert {event.order_id for event in answered} == {event.order_id for event in created}
    promised = sum(line.quantity for e in await logged(StockReserved) for line in e.lines)
    assert await _units("reserved") == promised


def _basket(chance: random.Random, skus: list[str]) -> dict[str, int]:
    return {sku: chance.randint(1, 3) for sku in chance.sample(skus, chance.randint(1, 5))}


async def _units(column: str) -> int:
    async with database.transaction() as session:
        return sum((await session.scalars(select(getattr(Stock, column)))).all())


async def test_creations_cancellations_and_dispatches_of_the_same_orders_may_collide(
    deliver: Delivered, orders: Any, stocked: Any, shelf_of: Any
) -> None:
    await stocked("main", LAMP=1_000)
    events: list[Event] = []
    cancelled: set[UUID] = set()
    for number in range(200):
        created = orders.created(LAMP=1)
        order_id = created.order_id
        events += [created, created]
        if number % 2:
            cancelled.add(order_id)
            events += [orders.cancelled(order_id)] * 2
        else:
            events.append(orders.moved(order_id, OrderStatus.SHIPPED))
    random.Random(7).shuffle(events)

    assert await _deliver_at_once(deliver, events) == {"SUCCESS"}

    assert await shelf_of("LAMP") == (1_000, 900, 0, 100)
    assert {event.order_id for event in await logged(StockReleased)} <= cancelled


async def test_restocking_and_selling_at_the_same_time_loses_no_unit(
    client: httpx.AsyncClient, deliver: Delivered, orders: Any, stocked: Any, shelf_of: Any
) -> None:
    await stocked("main", LAMP=100)
    staff = bearer(uuid4(), Role.STAFF)

    async def restock() -> int:
        headers = staff | {"Idempotency-Key": str(uuid4())}
        body = {"quantity": 10}
        return (
            await client.post("/inventory/LAMP/restock", json=body, headers=headers)
        ).status_code

    buyers = [orders.created(LAMP=1) for _ in range(100)]
    outcomes, *restocked = await asyncio.gather(
        _deliver_at_once(deliver, buyers), *(restock() for _ in range(10))
    )

    assert outcomes == {"SUCCESS"}
    assert restocked == [200] * 10
    assert await shelf_of("LAMP") == (200, 100, 100, 0)


async def test_a_restock_that_is_sent_twice_at_once_counts_once(
    client: httpx.AsyncClient, stocked: Any, shelf_of: Any
) -> None:
    await stocked("main", LAMP=5)
    headers = bearer(uuid4(), Role.STAFF) | {"Idempotency-Key": "delivery-1"}

    replies = await asyncio.gather(
        *(
            client.post("/inventory/LAMP/restock", json={"quantity": 3}, headers=headers)
            for _ in range(5)
        )
    )

    assert [reply.status_code for reply in replies] == [200] * 5
    assert await shelf_of("LAMP") == (8, 8, 0, 0)


async def test_stock_is_locked_in_the_order_of_receipts_whatever_the_collation(
    db: AsyncConnection,
) -> None:
    """Receipts are written as Python sorts them, which is by code points."""
    locking: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        locking.append(statement)

    event.listen(db.sync_connection, "before_cursor_execute", note)
    async with database.transaction() as session:
        await store.lock_stock(session, ["LAMP"])
    [query] = [statement for statement in locking if "FOR UPDATE" in statement]
    assert 'ORDER BY stock.sku COLLATE "C", stock.warehouse COLLATE "C"' in query
