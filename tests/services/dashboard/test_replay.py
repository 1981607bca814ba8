"""A replay builds the read model anew beside its consumers, as far back as the logs tell."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from chassis import replay as chassis_replay
from chassis.database import database
from chassis.event_history import history_routes
from chassis.event_log import append
from chassis.settings import settings
from chassis.sidecar import Reply
from chassis.tables import LoggedEvent, first_id_at, new_id
from chassis.testing import StandInSidecar, as_entry
from contracts import Event
from contracts.orders import OrderStatus, OrderStatusChanged
from contracts.users import UserLoggedIn
from dashboard.app import app as dashboard_app
from dashboard.tables import FeedLine, OrderSummary, SkuSummary
from fastapi import FastAPI
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

NOW = datetime.now(UTC)
LONG_AGO = NOW - timedelta(days=settings().event_log_days + 5)
TOKEN = {"dapr-api-token": settings().app_api_token, "content-type": "application/json"}


@pytest.fixture
async def client(concurrent_db: AsyncEngine) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(dashboard_app)
    async with httpx.AsyncClient(transport=transport, base_url="http://dashboard") as client:
        yield client


@pytest.fixture(autouse=True)
async def producers(
    client: httpx.AsyncClient, stand_in: StandInSidecar, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    """All events lie in the dashboard's own log, which stands in for that of each producer."""
    producer = FastAPI()
    for name in ("users", "orders"):
        producer.include_router(history_routes(name))
    transport = httpx.ASGITransport(producer)
    async with httpx.AsyncClient(transport=transport, base_url="http://producer") as caller:

        async def invoke(
            name: str, path: str, *, method: str = "GET", body: bytes | None = None
        ) -> Reply:
            if name not in ("users", "orders"):
                nothing = b'{"events": [], "cursor": "", "reached": null, "more": false}'
                return Reply(200, {}, nothing)
            reply = await caller.request(method, f"/{path}", content=body, headers=TOKEN)
            return Reply(reply.status_code, reply.headers, reply.content)

        monkeypatch.setattr("chassis.sidecar.sidecar.invoke", invoke)
        yield


def logged_in() -> UserLoggedIn:
    return UserLoggedIn(user_id=uuid4(), occurred_at=datetime.now(UTC))


def changed(order_id: UUID, version: int, status: OrderStatus) -> OrderStatusChanged:
    return OrderStatusChanged(
        order_id=order_id,
        order_version=version,
        user_id=uuid4(),
        status=status,
        previous_status=OrderStatus.PENDING,
        occurred_at=datetime.now(UTC),
    )


async def log_events(events: Sequence[Event]) -> list[LoggedEvent]:
    """As the log has them, old enough to be fetched."""
    async with database.transaction() as session:
        await append(session, *events)
        settle = "UPDATE event_log SET created_at = now() - interval '1 minute'"
        await session.execute(text(settle))
    async with database.transaction() as session:
        return list(await session.scalars(select(LoggedEvent).order_by(LoggedEvent.sequence)))


async def deliver(client: httpx.AsyncClient, logged: Sequence[LoggedEvent]) -> None:
    """Until the service has taken them: what it wants again, it gets again."""
    entries = [as_entry(row.topic, row.payload, id=str(row.id)) for row in logged]
    while entries:
        body = json.dumps({"entries": entries})
        reply = await client.post("/events", content=body, headers=TOKEN)
        statuses = reply.raise_for_status().json()["statuses"]
        again = {s["entryId"] for s in statuses if s["status"] != "SUCCESS"}
        entries = [entry for entry in entries if entry["entryId"] in again]


async def replay(client: httpx.AsyncClient) -> None:
    url = "/internal/dashboard/"
    (await client.post(url + "replay", json={}, headers=TOKEN)).raise_for_status()
    more = True
    while more:
        pages = await client.post(url + "reconcile", headers=TOKEN)
        more = any(page["more"] for page in pages.raise_for_status().json())


async def test_a_replay_beside_consumers_neither_deadlocks_nor_doubles(
    client: httpx.AsyncClient,
) -> None:
    orders = [new_id() for _ in range(40)]
    sign_ins = [logged_in() for _ in range(120)]
    steps = [changed(order, 2, OrderStatus.PROCESSING) for order in orders]
    last = [changed(order, 3, OrderStatus.SHIPPED) for order in orders]
    logged = await log_events([*sign_ins, *steps, *last])
    batches = [logged[n::20] for n in range(20)]

    async def consume(batches: Sequence[Sequence[LoggedEvent]]) -> None:
        for batch in batches:
            await deliver(client, batch)

    async with asyncio.TaskGroup() as group:
        for n in range(4):
            group.create_task(consume(batches[n::4]))
        for _ in range(3):
            await replay(client)
    await replay(client)

    async with database.transaction() as session:
        lines = await session.scalar(select(func.count()).select_from(FeedLine))
        shown = (
            await session.execute(
                select(OrderSummary.status, func.count()).group_by(OrderSummary.status)
            )
        ).all()
    assert lines == len(logged)
    assert [tuple(row) for row in shown] == [("shipped", len(orders))]


async def waiting_for_locks() -> int:
    query = """
        SELECT count(*) FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND datname = current_database()
    """
    async with database.transaction() as session:
        return await session.scalar(text(query)) or 0


async def test_what_comes_while_a_replay_deletes_is_shown_once(client: httpx.AsyncClient) -> None:
    """A line of the feed is held, so that the replay waits between two of its deletions."""
    first, second = await log_events([logged_in(), logged_in()])
    await deliver(client, [first])
    async with (
        asyncio.timeout(20),
        asyncio.TaskGroup() as group,
        database.transaction() as holder,
    ):
        await holder.execute(select(FeedLine).with_for_update())
        group.create_task(replay(client))
        while not await waiting_for_locks():
            pass
        delivering = group.create_task(deliver(client, [second]))
        while not delivering.done() and await waiting_for_locks() < 2:
            pass
    async with database.transaction() as session:
        assert await session.scalar(select(func.count()).select_from(FeedLine)) == 2


async def test_a_full_replay_keeps_what_no_log_tells(client: httpx.AsyncClient) -> None:
    old, young, invented = first_id_at(LONG_AGO), new_id(), new_id()
    await log_events([changed(order, 3, OrderStatus.SHIPPED) for order in (old, young)])
    async with database.transaction() as session:
        for order in (old, young, invented):
            session.add(
                OrderSummary(order_id=order, version=2, status="processing", paid=7, refunded=0)
            )
        session.add(SkuSummary(sku="A", name="Mug", product_version=1, active=True))
        for occurred_at in (LONG_AGO, NOW):
            session.add(
                FeedLine(topic="user.logged_in", revision="", phrase="p", occurred_at=occurred_at)
            )
    await replay(client)

    async with database.transaction() as session:
        orders = await session.scalars(select(OrderSummary).order_by(OrderSummary.order_id))
        assert [(o.order_id, o.status, o.paid) for o in orders] == [
            (old, "shipped", 7),
            (young, "shipped", 0),
        ]
        assert await session.get(SkuSummary, "A")
        lines = await session.scalars(
            select(FeedLine.occurred_at).where(FeedLine.topic == "user.logged_in")
        )
        assert lines.all() == [LONG_AGO]


async def test_a_replay_that_is_interrupted_loses_nothing(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends before its last commit; the next tick repairs what it had deleted."""
    logged = await log_events([changed(new_id(), 2, OrderStatus.PROCESSING) for _ in range(5)])
    await deliver(client, logged)

    move, calls = vars(chassis_replay)["_move"], count()

    async def move_once(*args: Any) -> None:
        if next(calls):
            raise ConnectionError
        await move(*args)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(chassis_replay, "_move", move_once)
        url = "/internal/dashboard/replay"
        assert (await client.post(url, json={}, headers=TOKEN)).status_code == 503
    async with database.transaction() as session:
        assert not (await session.scalars(select(OrderSummary))).all()
    (await client.post("/job/reconcile", headers=TOKEN)).raise_for_status()
    async with database.transaction() as session:
        assert len((await session.scalars(select(OrderSummary))).all()) == 5
