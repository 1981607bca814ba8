"""SIGTERM to a service in a process of its own, with a real database and a stand-in for daprd."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest
from aiohttp import web
from chassis.database import database
from chassis.event_log import append
from chassis.settings import settings
from chassis.testing import as_entry
from contracts.users import UserDeleted
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from waybill.waiting import Condition, until

pytestmark = pytest.mark.timeout(60)


class Daprd:
    """Is ready, and keeps what is published."""

    def __init__(self) -> None:
        self.published: list[str] = []
        self.port = 0

    async def ready(self, _: web.Request) -> web.Response:
        return web.Response(status=204)

    async def publish(self, request: web.Request) -> web.Response:
        self.published += [entry["event"]["subject"] for entry in await request.json()]
        return web.Response(status=204)


@pytest.fixture
async def daprd() -> AsyncIterator[Daprd]:
    daprd = Daprd()
    app = web.Application()
    app.router.add_get("/v1.0/healthz/outbound", daprd.ready)
    app.router.add_post("/v1.0-alpha1/publish/bulk/pubsub/events", daprd.publish)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    daprd.port = runner.addresses[0][1]
    yield daprd
    await runner.cleanup()


class Service:
    """A client of `orders` as it runs in its process."""

    def __init__(self, process: asyncio.subprocess.Process, http: httpx.AsyncClient) -> None:
        self.process = process
        self.http = http

    async def is_ready(self) -> bool:
        try:
            return (await self.http.get("/ready")).is_success
        except httpx.TransportError:
            return False

    async def takes_no_more(self) -> bool:
        return not await self.is_ready()


@pytest.fixture
async def service_process(
    concurrent_db: AsyncEngine, daprd: Daprd, unused_tcp_port: int
) -> AsyncIterator[Service]:
    environment = {
        **os.environ,
        "DATABASE_URL": concurrent_db.url.render_as_string(hide_password=False),
        "DAPR_HTTP_PORT": str(daprd.port),
        "UVICORN_TIMEOUT_GRACEFUL_SHUTDOWN": "10",
    }
    argv = ["-m", "uvicorn", "orders.app:app", "--port", str(unused_tcp_port)]
    process = await asyncio.create_subprocess_exec(sys.executable, *argv, env=environment)
    base = f"http://127.0.0.1:{unused_tcp_port}"
    async with httpx.AsyncClient(base_url=base, timeout=30) as http:
        service = Service(process, http)
        await until(service.is_ready, seconds=30)
        yield service
    if process.returncode is None:
        process.kill()
        await process.wait()


async def test_a_service_finishes_what_it_has_begun_and_publishes_it_before_it_ends(
    service_process: Service,
    concurrent_db: AsyncEngine,
    daprd: Daprd,
    lock_awaited: Condition,
) -> None:
    event = UserDeleted(user_id=uuid4(), occurred_at=datetime.now(UTC))
    async with concurrent_db.connect() as holder:
        await holder.execute(text("LOCK TABLE dead_letters"))
        delivery = asyncio.create_task(deliver_poison(service_process))
        await until(lock_awaited, seconds=10, every=0.05)

        service_process.process.send_signal(signal.SIGTERM)
        await until(service_process.takes_no_more, seconds=5, every=0.02)
        assert not delivery.done()
        # Written while it stops: the relay has to look once more.
        async with database.transaction() as session:
            await append(session, event)
        await holder.rollback()

    async with asyncio.timeout(10):
        reply = await delivery
        assert [entry["status"] for entry in reply["statuses"]] == ["SUCCESS"]
        await service_process.process.wait()
    assert daprd.published == [str(event.user_id)]
    async with concurrent_db.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM dead_letters")) == 1


async def deliver_poison(service: Service) -> Any:
    body = {"entries": [as_entry("no.such.event", {})]}
    headers = {"dapr-api-token": settings().app_api_token}
    return (await service.http.post("/events", json=body, headers=headers)).json()
