"""The dead-letter desk of a service: what is open, what a replay does, and who decided."""

import asyncio
import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from chassis.app import create_app
from chassis.desk import LONGEST_EXCERPT
from chassis.event_log import append
from chassis.health import health_routes
from chassis.sidecar import SidecarUnavailable
from chassis.testing import Delivered, as_entry, dead_letters, logged
from contracts.users import UserDeleted, UserLoggedIn
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

TOPIC = UserDeleted.topic
TOKEN = {"dapr-api-token": "the-token-of-the-sidecar-in-tests"}
DESK = "/internal/test/dead-letters"
ME, OTHER = str(uuid4()), str(uuid4())


class Handler:
    """Answers a `user.deleted` with a `user.logged_in` of the same user, or fails after it."""

    def __init__(self) -> None:
        self.failure: Exception | None = None

    async def __call__(self, session: AsyncSession, events: Sequence[UserDeleted]) -> None:
        for event in events:
            answer = UserLoggedIn(user_id=event.user_id, occurred_at=event.occurred_at)
            await append(session, answer)
        if self.failure:
            raise self.failure


@pytest.fixture
def handler() -> Handler:
    return Handler()


@pytest.fixture
def app(db: AsyncConnection, handler: Handler) -> FastAPI:
    return create_app("test", subscriptions={UserDeleted: handler})


@pytest.fixture
async def desk(client: httpx.AsyncClient) -> "DeskClient":
    return DeskClient(client)


class DeskClient:
    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def letters(self, limit: int = 100) -> Any:
        reply = await self._client.get(DESK, params={"limit": limit}, headers=TOKEN)
        return reply.raise_for_status().json()

    async def letter(self, public_id: str) -> Any:
        reply = await self._client.get(self._url(public_id), headers=TOKEN)
        return reply.raise_for_status().json()

    async def decide(self, verb: str, public_id: str, by: str = ME) -> httpx.Response:
        url = f"{self._url(public_id)}/{verb}"
        return await self._client.post(url, json={"by": by}, headers=TOKEN)

    async def replay(self, public_id: str, by: str = ME) -> Any:
        return (await self.decide("replay", public_id, by)).raise_for_status().json()

    async def discard(self, public_id: str, by: str = ME) -> Any:
        return (await self.decide("discard", public_id, by)).raise_for_status().json()

    @staticmethod
    def _url(public_id: str) -> str:
        return f"{DESK}/{public_id.removeprefix('test:')}"


def entry(**attributes: Any) -> dict[str, Any]:
    event = UserDeleted(user_id=uuid4(), occurred_at=datetime.now(UTC))
    return as_entry(TOPIC, event.model_dump(mode="json"), **attributes)


async def refuse(deliver: Delivered, handler: Handler, *entries: dict[str, Any]) -> None:
    handler.failure = ValueError("no such thing")
    assert set(await deliver.raw(TOPIC, [*entries])) == {"SUCCESS"}
    handler.failure = None


async def test_an_open_letter_shows_the_event_the_reason_and_the_trace(
    desk: DeskClient, deliver: Delivered, handler: Handler
) -> None:
    poison = entry(producertrace=f"00-{7:032x}-00f067aa0ba902b7-01")
    await refuse(deliver, handler, poison)

    found = await desk.letters()
    assert found["total"] == 1
    [letter] = found["items"]
    assert UUID(letter["id"].removeprefix("test:"))
    assert json.loads(letter["payload"]) == poison["event"]
    assert letter["payload_length"] == len(letter["payload"])
    shown = ("service", "topic", "event_id", "reason", "attempts", "trace_id")
    assert {name: letter[name] for name in shown} == {
        "service": "test",
        "topic": TOPIC,
        "event_id": poison["event"]["id"],
        "reason": "ValueError('no such thing')",
        "attempts": 1,
        "trace_id": f"{7:032x}",
    }


async def test_the_newest_are_listed_and_all_are_counted(
    db: AsyncConnection, desk: DeskClient, deliver: Delivered, handler: Handler
) -> None:
    await refuse(deliver, handler, *(entry() for _ in range(5)))
    # In a test all rows are of one transaction, so of one moment.
    aged = "UPDATE dead_letters SET received_at = now() - random() * interval '1 hour'"
    await db.execute(text(aged))

    found = await desk.letters(limit=3)
    received = [letter["received_at"] for letter in found["items"]]
    assert len(received) == 3
    everything = [letter["received_at"] for letter in (await desk.letters())["items"]]
    assert received == sorted(everything, reverse=True)[:3]
    assert found["total"] == 5


@pytest.mark.parametrize("limit", [0, 501, "x"])
async def test_a_list_is_bounded(client: httpx.AsyncClient, limit: object) -> None:
    assert (await client.get(f"{DESK}?limit={limit}", headers=TOKEN)).status_code == 422


async def test_what_cannot_be_read_can_only_be_discarded(
    client: httpx.AsyncClient, desk: DeskClient
) -> None:
    deep = "[" * 5_000 + "]" * 5_000
    body = f'{{"entries": [{{"entryId": "deep", "event": {deep}}}]}}'
    (await client.post("/events", content=body, headers=TOKEN)).raise_for_status()
    [letter] = (await desk.letters())["items"]
    assert letter["payload_length"] == 10_000
    assert "discarded" in (await desk.replay(letter["id"]))["refusal"]
    assert (await desk.discard(letter["id"]))["resolution"] == "discarded"


async def test_a_list_cuts_a_long_payload_and_the_letter_has_it_all(
    desk: DeskClient, deliver: Delivered
) -> None:
    await deliver.raw(TOPIC, [{"entryId": "long", "event": "x" * 3 * LONGEST_EXCERPT}])

    [letter] = (await desk.letters())["items"]
    assert letter["payload"] == "x" * LONGEST_EXCERPT
    assert letter["payload_length"] == 3 * LONGEST_EXCERPT
    assert (await desk.letter(letter["id"]))["payload"] == "x" * 3 * LONGEST_EXCERPT


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(times=st.integers(1, 4), deliveries=st.integers(0, 2))
async def test_a_replay_takes_effect_once_however_often_it_is_asked_for(
    desk: DeskClient, deliver: Delivered, handler: Handler, times: int, deliveries: int
) -> None:
    before = len(await logged(UserLoggedIn))
    poison = entry()
    await refuse(deliver, handler, poison)
    [letter] = (await desk.letters())["items"]

    answers = [await desk.replay(letter["id"], by) for by in (ME, OTHER, OTHER, OTHER)[:times]]
    for _ in range(deliveries):
        await deliver.raw(TOPIC, [poison])

    assert len(await logged(UserLoggedIn)) == before + 1
    assert {(a["resolution"], a["resolved_by"], a["refusal"]) for a in answers} == {
        ("replayed", ME, None)
    }
    assert await desk.letters() == {"items": [], "total": 0}


async def test_an_event_that_arrived_meanwhile_is_not_handled_again(
    desk: DeskClient, deliver: Delivered, handler: Handler
) -> None:
    poison = entry()
    await refuse(deliver, handler, poison)
    [letter] = (await desk.letters())["items"]
    await deliver.raw(TOPIC, [poison])

    assert (await desk.replay(letter["id"]))["resolution"] == "replayed"
    assert len(await logged(UserLoggedIn)) == 1


async def test_a_replay_that_is_refused_tells_why_and_leaves_no_trace_but_the_attempt(
    desk: DeskClient, deliver: Delivered, handler: Handler
) -> None:
    await refuse(deliver, handler, entry())
    [letter] = (await desk.letters())["items"]
    handler.failure = KeyError("another reason")

    decision = await desk.replay(letter["id"])
    assert (decision["resolution"], decision["refusal"]) == (None, "KeyError('another reason')")
    [letter] = (await desk.letters())["items"]
    assert (letter["reason"], letter["attempts"]) == ("KeyError('another reason')", 2)
    assert await logged(UserLoggedIn) == []

    handler.failure = None
    assert (await desk.replay(letter["id"]))["resolution"] == "replayed"
    assert len(await logged(UserLoggedIn)) == 1


async def test_passing_trouble_leaves_the_letter_as_it_was(
    desk: DeskClient, deliver: Delivered, handler: Handler
) -> None:
    await refuse(deliver, handler, entry())
    before = await desk.letters()
    handler.failure = SidecarUnavailable("away")

    reply = await desk.decide("replay", before["items"][0]["id"])
    assert reply.status_code == 503
    assert reply.headers["retry-after"]
    assert await desk.letters() == before
    assert await logged(UserLoggedIn) == []


@pytest.mark.parametrize("undelivered", [b"\xff rubbish", b"{broken", b""])
async def test_what_is_no_json_can_only_be_discarded(
    client: httpx.AsyncClient, desk: DeskClient, undelivered: bytes
) -> None:
    body = {"data_base64": base64.b64encode(undelivered).decode()}
    (await client.post("/events/dead-letters", json=body, headers=TOKEN)).raise_for_status()
    [letter] = (await desk.letters())["items"]

    refused = await desk.replay(letter["id"])
    assert refused["resolution"] is None
    assert "only be discarded" in refused["refusal"]
    assert (await desk.discard(letter["id"]))["resolution"] == "discarded"


@pytest.mark.parametrize("event", [{}, [], None, 7, {"type": "moon.landed"}, {"type": TOPIC}])
async def test_what_is_no_event_of_ours_is_refused_again(
    desk: DeskClient, deliver: Delivered, event: Any
) -> None:
    await deliver.raw(TOPIC, [{"entryId": "bad", "event": event}])
    [letter] = (await desk.letters())["items"]

    assert (await desk.replay(letter["id"]))["refusal"]
    assert (await desk.letters())["items"][0]["attempts"] == 2


async def test_the_first_decision_stands(
    desk: DeskClient, deliver: Delivered, handler: Handler
) -> None:
    await refuse(deliver, handler, entry())
    [letter] = (await desk.letters())["items"]

    first = await desk.discard(letter["id"], ME)
    assert (first["resolution"], first["resolved_by"]) == ("discarded", ME)
    assert await desk.replay(letter["id"], OTHER) == first
    assert await desk.discard(letter["id"], OTHER) == first
    assert await logged(UserLoggedIn) == []


async def test_a_discarded_event_that_is_refused_anew_opens_its_letter(
    desk: DeskClient, deliver: Delivered, handler: Handler
) -> None:
    poison = entry()
    await refuse(deliver, handler, poison)
    [letter] = (await desk.letters())["items"]
    await desk.discard(letter["id"])

    await refuse(deliver, handler, poison)
    [again] = (await desk.letters())["items"]
    assert (again["id"], again["attempts"]) == (letter["id"], 2)
    [row] = await dead_letters()
    assert (row.resolution, row.resolved_at, row.resolved_by) == (None, None, None)


async def test_the_gauge_counts_open_letters(
    app: FastAPI,
    client: httpx.AsyncClient,
    desk: DeskClient,
    deliver: Delivered,
    handler: Handler,
) -> None:
    await refuse(deliver, handler, entry(), entry())
    await desk.discard((await desk.letters())["items"][0]["id"])

    measuring = FastAPI()
    measuring.include_router(health_routes(has_database=True))
    app.mount("/measuring", measuring)
    assert "\ndead_letters 1.0\n" in (await client.get("/measuring/metrics")).text


async def test_a_letter_that_is_not_there_is_null(desk: DeskClient) -> None:
    unknown = f"test:{uuid4()}"
    assert await desk.letter(unknown) is None
    assert await desk.replay(unknown) is None
    assert await desk.discard(unknown) is None


@pytest.mark.parametrize("path", ["", f"/{UUID(int=1)}", f"/{UUID(int=1)}/replay"])
async def test_only_the_sidecar_may_ask(client: httpx.AsyncClient, path: str) -> None:
    method = "POST" if path.endswith("replay") else "GET"
    for headers in ({}, {"dapr-api-token": "a guess"}):
        reply = await client.request(method, DESK + path, headers=headers, json={"by": ME})
        assert reply.status_code == 403


async def test_of_people_who_act_at_once_one_decides(
    concurrent_db: AsyncEngine, handler: Handler, trusted_keys: None
) -> None:
    app = create_app("test", subscriptions={UserDeleted: handler})
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        desk, deliver = DeskClient(client), Delivered(client)
        for _ in range(5):
            await refuse(deliver, handler, entry())
            [letter] = (await desk.letters())["items"]
            decisions = await asyncio.gather(
                desk.replay(letter["id"], ME),
                desk.discard(letter["id"], OTHER),
                desk.replay(letter["id"], OTHER),
            )
            assert len({(d["resolution"], d["resolved_by"]) for d in decisions}) == 1
        replayed = [letter for letter in await dead_letters() if letter.resolution == "replayed"]
        assert len(await logged(UserLoggedIn)) == len(replayed)
