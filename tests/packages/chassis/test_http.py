"""What every service's HTTP side does: transactions, problems, limits, health, idempotency."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated
from uuid import UUID, uuid4

import httpx
import pytest
from chassis.app import create_app
from chassis.database import Session, database
from chassis.idempotency import RequestKey, once
from chassis.problems import Conflict
from chassis.sidecar import SidecarUnavailable
from chassis.tables import IdempotencyKey, SeenEvent
from chassis.testing import StandInSidecar
from fastapi import APIRouter, FastAPI, Query
from pydantic import BaseModel
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

router = APIRouter()


class NothingLeft(Conflict):
    pass


class Amount(BaseModel):
    amount: int


@router.post("/marks/{event_id}")
async def mark(event_id: UUID, session: Session, then: str = "") -> dict[str, str]:
    session.add(SeenEvent(event_id=event_id))
    await session.flush()
    match then:
        case "refuse":
            raise NothingLeft("Nothing is left.", left=0)
        case "crash":
            raise ZeroDivisionError
        case "lose the sidecar":
            raise SidecarUnavailable("away")
        case "break the commit":
            column = "x int UNIQUE DEFERRABLE INITIALLY DEFERRED"
            await session.execute(text(f"CREATE TEMP TABLE c ({column}) ON COMMIT DROP"))
            await session.execute(text("INSERT INTO c VALUES (1), (1)"))
        case _:
            pass
    return {"status": "marked"}


@router.get("/search")
async def search(q: Annotated[str, Query(max_length=5)], session: Session) -> str:
    return await session.scalar(select(func.upper(q))) or ""


@router.post("/charges", status_code=201)
async def charge(body: Amount, key: RequestKey, session: Session) -> object:
    async def effect() -> Amount:
        session.add(SeenEvent(event_id=uuid4()))
        return body

    return await once(session, "somebody", key, body, effect)


async def marks() -> int:
    async with database.transaction() as session:
        return await session.scalar(select(func.count()).select_from(SeenEvent)) or 0


@pytest.fixture
def app(db: AsyncConnection) -> FastAPI:
    return create_app("test", routers=[router])


async def test_a_request_is_one_transaction(client: httpx.AsyncClient) -> None:
    assert (await client.post(f"/marks/{uuid4()}")).status_code == 200
    assert await marks() == 1


@pytest.mark.parametrize(
    ("then", "status"), [("refuse", 409), ("crash", 500), ("lose the sidecar", 503)]
)
async def test_a_request_that_fails_leaves_nothing(
    client: httpx.AsyncClient, then: str, status: int
) -> None:
    reply = await client.post(f"/marks/{uuid4()}", params={"then": then})
    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/problem+json"
    assert await marks() == 0


async def test_a_commit_that_fails_is_not_announced_as_success(
    concurrent_db: AsyncEngine, trusted_keys: None
) -> None:
    transport = httpx.ASGITransport(create_app("t", routers=[router]), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        reply = await client.post(f"/marks/{uuid4()}", params={"then": "break the commit"})
    assert reply.status_code == 500
    assert await marks() == 0


async def test_a_problem_names_its_rule_and_carries_its_details(client: httpx.AsyncClient) -> None:
    reply = await client.post(f"/marks/{uuid4()}", params={"then": "refuse"})
    assert reply.json() == {
        "type": "urn:waybill:problem:nothing-left",
        "title": "Conflict",
        "status": 409,
        "detail": "Nothing is left.",
        "left": 0,
    }


async def test_trouble_that_passes_says_when_to_come_back(client: httpx.AsyncClient) -> None:
    reply = await client.post(f"/marks/{uuid4()}", params={"then": "lose the sidecar"})
    assert reply.headers["retry-after"] == "2"


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [("/search?q=much too long", 422, "q"), ("/search", 422, "q"), ("/marks/7", 405, None)],
)
async def test_bad_input_names_the_field(
    client: httpx.AsyncClient, path: str, status: int, field: str | None
) -> None:
    reply = await client.get(path)
    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/problem+json"
    if field:
        assert reply.json()["errors"][0]["field"] == field


async def test_a_character_that_cannot_be_stored_is_the_callers_error(
    client: httpx.AsyncClient,
) -> None:
    assert (await client.get("/search", params={"q": "a\x00b"})).status_code == 422


async def test_an_unknown_path_is_a_problem_document(client: httpx.AsyncClient) -> None:
    reply = await client.get("/nowhere")
    assert (reply.status_code, reply.json()["status"]) == (404, 404)


async def test_the_correlation_id_is_kept_or_made(client: httpx.AsyncClient) -> None:
    given = await client.get("/search?q=a", headers={"X-Correlation-Id": "basket-7"})
    assert given.headers["x-correlation-id"] == "basket-7"
    made = await client.get("/search?q=a", headers={"X-Correlation-Id": "x" * 65})
    assert len(made.headers["x-correlation-id"]) == 32


async def test_a_declared_length_past_the_limit_is_refused_unread(
    client: httpx.AsyncClient,
) -> None:
    reply = await client.post("/charges", content=b" " * 300_000)
    assert reply.status_code == 413


async def test_health_asks_the_database_and_readiness_the_sidecar(
    client: httpx.AsyncClient, stand_in: StandInSidecar
) -> None:
    assert (await client.get("/health")).status_code == 200
    assert (await client.get("/ready")).status_code == 200
    stand_in.away = True
    assert (await client.get("/health")).status_code == 200
    assert (await client.get("/ready")).status_code == 503


async def test_metrics_count_requests_by_route_and_show_the_backlog(
    client: httpx.AsyncClient,
) -> None:
    await client.post(f"/marks/{uuid4()}")
    metrics = (await client.get("/metrics")).text
    labels = '{method="POST",route="/marks/{event_id}",status="200"}'
    assert f"http_requests_total{labels}" in metrics
    assert "outbox_depth 0.0" in metrics


async def test_the_docs_need_no_internet(client: httpx.AsyncClient) -> None:
    page = (await client.get("/docs")).text
    assert "https://" not in page


async def test_concurrent_repeats_of_a_request_take_effect_once(
    concurrent_db: AsyncEngine,
) -> None:
    transport = httpx.ASGITransport(create_app("t", routers=[router]))
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        send = _sender(client, str(uuid4()))
        replies = await asyncio.gather(*(send({"amount": 5}) for _ in range(4)))
        other = await send({"amount": 6})
    assert {reply.status_code for reply in replies} == {201}
    assert sum("idempotent-replayed" in reply.headers for reply in replies) == 3
    assert other.status_code == 422
    assert await marks() == 1


def _sender(
    client: httpx.AsyncClient, key: str
) -> Callable[[dict[str, int]], Awaitable[httpx.Response]]:
    async def send(body: dict[str, int]) -> httpx.Response:
        return await client.post("/charges", json=body, headers={"Idempotency-Key": key})

    return send


async def test_a_request_that_failed_does_not_use_up_its_key(client: httpx.AsyncClient) -> None:
    refused = await client.post("/charges", json={}, headers={"Idempotency-Key": "k"})
    assert refused.status_code == 422
    async with database.transaction() as session:
        assert await session.scalar(select(func.count()).select_from(IdempotencyKey)) == 0
