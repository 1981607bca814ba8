"""The stream that keeps an open page current, over HTTP."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest
from chassis.database import database
from chassis.testing import Delivered
from contracts.orders import Address, OrderCreated
from dashboard import api
from dashboard.broadcast import SHORTEST_PAUSE_SECONDS, Broadcast, broadcast
from dashboard.subscriptions import subscriptions
from sqlalchemy import text

PATIENCE_SECONDS = 20


def created() -> OrderCreated:
    return OrderCreated(
        order_id=uuid4(),
        order_version=1,
        user_id=uuid4(),
        occurred_at=datetime.now(UTC),
        lines=(),
        total=9_800,
        currency="EUR",
        shipping_address=Address(line1="1 Long Lane", city="Oslo", postal_code="0", country="NO"),
        payment_method="pm_card_ok",
    )


@pytest.fixture
async def browser(served: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=served, timeout=PATIENCE_SECONDS) as client:
        yield client


@contextlib.asynccontextmanager
async def watching(browser: httpx.AsyncClient) -> AsyncGenerator[AsyncIterator[Any], None]:
    """The snapshots that an open page gets."""
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        browser.stream("GET", "/api/stream") as reply,
    ):
        assert reply.headers["content-type"].startswith("text/event-stream")
        yield _snapshots(reply)


async def _snapshots(reply: httpx.Response) -> AsyncIterator[Any]:
    async for line in reply.aiter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


async def pending_reaches(count: int, snapshots: AsyncIterator[Any]) -> int:
    """How many snapshots came until one showed so many pending orders."""
    seen = 0
    async for snapshot in snapshots:
        seen += 1
        if snapshot["orders"]["pending"] == count:
            return seen
    raise AssertionError("The stream ended.")


async def consumed_by_another_replica(*events: OrderCreated) -> None:
    async with database.transaction() as session:
        await subscriptions[OrderCreated](session, events)


async def test_an_open_page_gets_what_is_known_and_then_what_happens(
    browser: httpx.AsyncClient,
) -> None:
    await Delivered(browser)(created())

    async with watching(browser) as snapshots:
        assert (await anext(snapshots))["orders"]["pending"] == 1
        await Delivered(browser)(created())
        await pending_reaches(2, snapshots)


async def test_what_another_replica_consumed_is_shown_as_well(browser: httpx.AsyncClient) -> None:
    async with watching(browser) as snapshots:
        await consumed_by_another_replica(created())
        await pending_reaches(1, snapshots)


async def test_many_changes_at_once_are_pushed_as_few(browser: httpx.AsyncClient) -> None:
    batches = 40
    async with watching(browser) as snapshots:
        await anext(snapshots)
        began = asyncio.get_running_loop().time()
        for _ in range(batches):
            await consumed_by_another_replica(created())
        pushes = await pending_reaches(batches, snapshots)
        took = asyncio.get_running_loop().time() - began

    assert pushes <= took / SHORTEST_PAUSE_SECONDS + 1


async def test_listening_goes_on_after_the_database_dropped_the_connection(
    browser: httpx.AsyncClient,
) -> None:
    drop = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
    async with watching(browser) as snapshots:
        await anext(snapshots)
        async with database.transaction() as session:
            assert list(await session.scalars(text(drop))) == [True]
        await consumed_by_another_replica(created())
        await pending_reaches(1, snapshots)


async def test_a_page_too_many_is_told_to_come_back(
    browser: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.broadcast.MOST_VIEWERS", 1)
    async with watching(browser) as snapshots:
        await anext(snapshots)
        reply = await browser.get("/api/stream")

    assert reply.status_code == 503
    assert reply.headers["retry-after"]


async def test_a_page_that_stopped_reading_is_let_go(
    served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "SEND_TIMEOUT_SECONDS", 0.3)
    address = httpx.URL(served)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(PATIENCE_SECONDS):
        with socket.create_connection((address.host, address.port)) as page:
            page.settimeout(0)
            await loop.sock_sendall(page, b"GET /api/stream HTTP/1.1\r\nHost: dashboard\r\n\r\n")
            while b"data:" not in await loop.sock_recv(page, 65_536):
                pass
            while broadcast.viewers:
                await broadcast.send("x" * 500_000)  # until no buffer on the way takes any more
                await asyncio.sleep(0)


async def test_a_slow_page_skips_to_the_newest_snapshot() -> None:
    updates = Broadcast()
    snapshots = updates.snapshots()
    await updates.send("first")
    assert await anext(snapshots) == "first"

    await updates.send("second")
    await updates.send("third")

    assert await anext(snapshots) == "third"


async def test_a_page_that_was_closed_is_no_viewer_any_more() -> None:
    updates = Broadcast()
    async with contextlib.aclosing(updates.snapshots()) as snapshots:
        await updates.send("first")
        await anext(snapshots)
        assert updates.viewers == 1

    assert updates.viewers == 0
