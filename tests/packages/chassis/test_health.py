"""Probes: bounded whatever hangs, one at a time whoever asks, and false once the end has begun."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from types import FrameType

import httpx
import pytest
import uvicorn
from chassis.app import create_app
from chassis.database import database
from chassis.probe import Probe
from chassis.problems import Unavailable
from chassis.settings import settings
from chassis.testing import StandInSidecar
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import create_async_engine


class Abyss:
    """A server that takes every connection and never says a word."""

    def __init__(self) -> None:
        self.connections: list[asyncio.StreamWriter] = []
        self.port = 0

    async def swallow(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)


@pytest.fixture
async def frozen_database() -> AsyncIterator[Abyss]:
    abyss = Abyss()
    server = await asyncio.start_server(abyss.swallow, "127.0.0.1")
    abyss.port = server.sockets[0].getsockname()[1]
    url = f"postgresql+asyncpg://waybill@127.0.0.1:{abyss.port}/waybill"
    engine = create_async_engine(url, connect_args={"timeout": 60, "ssl": False})
    database.use(engine)
    yield abyss
    database.use(None)
    server.close()
    for writer in abyss.connections:
        writer.close()
    await engine.dispose()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.probe.PATIENCE_SECONDS", 0.1)


@pytest.fixture
def app(stand_in: StandInSidecar) -> FastAPI:
    return create_app("test", docs=False)


@pytest.fixture
def has_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings(), "database_url", "postgresql+asyncpg://it-is-replaced")


@pytest.mark.usefixtures("has_database", "impatient")
async def test_a_database_that_hangs_is_told_in_time_and_asked_once(
    frozen_database: Abyss, has_database: None, client: httpx.AsyncClient
) -> None:
    async with asyncio.timeout(5):
        paths = ["/health", "/ready"] * 10
        replies = await asyncio.gather(*(client.get(path) for path in paths))
        metrics = await client.get("/metrics")
    for reply in replies:
        assert reply.status_code == 503
        assert reply.headers["content-type"] == "application/problem+json"
        assert "retry-after" in reply.headers
    assert metrics.status_code == 200
    assert len(frozen_database.connections) == 2  # of the probes and of the gauges


@pytest.mark.usefixtures("has_database", "impatient")
async def test_a_process_lives_whatever_its_database_does(
    frozen_database: Abyss, client: httpx.AsyncClient
) -> None:
    assert (await client.get("/health")).status_code == 503
    assert (await client.get("/live")).status_code == 200


@pytest.mark.usefixtures("impatient")
async def test_a_sidecar_that_hangs_is_told_in_time(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def hang() -> bool:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.5)
        return True

    monkeypatch.setattr("chassis.health.sidecar.is_ready", hang)
    async with asyncio.timeout(5):
        replies = await asyncio.gather(*(client.get("/ready") for _ in range(10)))
        assert {reply.status_code for reply in replies} == {503}
        assert {"retry-after" in reply.headers for reply in replies} == {True}
        assert asked == 1
        while (await client.get("/ready")).status_code == 503:  # until it wakes
            pass


class Server(uvicorn.Server):
    """Without what libraries in this process hang on a real one's signals, which lasts."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.should_exit = True


@pytest.fixture
def server(app: FastAPI) -> Iterator[uvicorn.Server]:
    """A server whose signals arrive, as when it serves."""
    server = Server(uvicorn.Config(app))
    before = signal.signal(signal.SIGTERM, server.handle_exit)
    yield server
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("db", "server")
async def test_from_sigterm_on_a_service_is_not_ready(client: httpx.AsyncClient) -> None:
    assert (await client.get("/ready")).status_code == 200
    os.kill(os.getpid(), signal.SIGTERM)
    reply = await client.get("/ready")
    assert (reply.status_code, "retry-after" in reply.headers) == (503, True)
    assert (await client.get("/health")).status_code == 200


async def test_a_probe_tells_what_the_check_found_and_checks_anew() -> None:
    found: list[Exception | None] = [ConnectionRefusedError(), None]

    async def check() -> None:
        if error := found.pop(0):
            raise error

    probe = Probe("database", check)
    with pytest.raises(ConnectionRefusedError):
        await probe.ask()
    await probe.ask()
    assert found == []


@pytest.mark.usefixtures("impatient")
async def test_a_check_that_fails_when_nobody_waits_any_more_is_forgotten() -> None:
    fail = asyncio.Event()
    failed = asyncio.Event()

    async def check() -> None:
        await fail.wait()
        failed.set()
        raise ConnectionResetError

    probe = Probe("database", check)
    with pytest.raises(Unavailable):
        await probe.ask()
    fail.set()
    await failed.wait()
    with pytest.raises(ConnectionResetError):
        await probe.ask()
