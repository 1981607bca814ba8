"""How many client requests a process takes at a time, and what it tells the others."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from chassis.app import create_app
from chassis.settings import settings
from fastapi import APIRouter, FastAPI
from fastapi.responses import StreamingResponse
from sqlalchemy.ext.asyncio import AsyncConnection


class Hall:
    """Requests that stay until they are let go."""

    def __init__(self) -> None:
        self.inside = 0
        self.entered = asyncio.Condition()
        self.open_doors = asyncio.Event()
        self.router = APIRouter()
        for path in ("/visits", "/events/visit", "/internal/visit"):
            self.router.add_api_route(path, self.visit, methods=["POST"])
        self.router.add_api_route("/stream", self.stream)

    async def visit(self) -> None:
        async with self.entered:
            self.inside += 1
            self.entered.notify_all()
        await self.open_doors.wait()

    async def holds(self, visitors: int) -> None:
        async with asyncio.timeout(5), self.entered:
            await self.entered.wait_for(lambda: self.inside >= visitors)

    async def stream(self) -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            yield "begun"
            await self.visit()

        return StreamingResponse(parts())


@pytest.fixture
def hall() -> Hall:
    return Hall()


@pytest.fixture
def app(db: AsyncConnection, hall: Hall, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    monkeypatch.setattr(settings(), "max_requests_in_flight", 2)
    monkeypatch.setattr("chassis.admission.PATIENCE_SECONDS", 0.05)
    return create_app("test", routers=[hall.router])


async def test_past_the_bound_requests_are_refused_and_told_when_to_come_back(
    client: httpx.AsyncClient, hall: Hall
) -> None:
    async with asyncio.TaskGroup() as group:
        visits = [group.create_task(client.post("/visits")) for _ in range(2)]
        await hall.holds(2)
        refused = await asyncio.gather(*(client.post("/visits") for _ in range(5)))
        hall.open_doors.set()
    for reply in refused:
        assert reply.status_code == 503
        assert reply.headers["content-type"] == "application/problem+json"
        assert int(reply.headers["retry-after"]) >= 1
        assert reply.json()["type"] == "urn:waybill:problem:too-busy"
    assert [visit.result().status_code for visit in visits] == [200, 200]
    assert (await client.post("/visits")).status_code == 200


async def test_a_short_burst_waits_for_its_turn(
    client: httpx.AsyncClient, hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.admission.PATIENCE_SECONDS", 5)
    async with asyncio.TaskGroup() as group:
        visits = [group.create_task(client.post("/visits")) for _ in range(4)]
        await hall.holds(2)
        one_too_many = await client.post("/visits")
        hall.open_doors.set()
    assert one_too_many.status_code == 503
    assert {visit.result().status_code for visit in visits} == {200}


async def test_a_client_that_leaves_the_line_takes_no_place(
    client: httpx.AsyncClient, hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.admission.PATIENCE_SECONDS", 5)
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(client.post("/visits"))
        await hall.holds(2)
        impatient = [group.create_task(client.post("/visits")) for _ in range(2)]
        while (await client.post("/visits")).status_code != 503:  # until the line is full
            pass
        for visit in impatient:
            visit.cancel()
        await asyncio.wait(impatient)
        patient = group.create_task(client.post("/visits"))
        hall.open_doors.set()
    assert patient.result().status_code == 200


@pytest.mark.parametrize("path", ["/events/visit", "/internal/visit"])
async def test_what_sidecars_bring_and_probes_are_never_refused(
    client: httpx.AsyncClient, hall: Hall, path: str
) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(client.post("/visits"))
        await hall.holds(2)
        brought = [group.create_task(client.post(path)) for _ in range(5)]
        await hall.holds(7)
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/metrics")).status_code == 200
        hall.open_doors.set()
    assert {reply.result().status_code for reply in brought} == {200}


async def test_a_stream_keeps_no_place(client: httpx.AsyncClient, hall: Hall) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(client.get("/stream"))
            await hall.holds(hall.inside + 1)
        hall.open_doors.set()
