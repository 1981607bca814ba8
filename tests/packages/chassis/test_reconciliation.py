"""What the broker lost comes from the producers' event logs, once, and nothing is passed over."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from chassis import consumer, event_history, reconciliation
from chassis.app import create_app
from chassis.database import database
from chassis.event_history import HistoryPage, history_routes
from chassis.event_log import append
from chassis.settings import settings
from chassis.sidecar import Reply, SidecarUnavailable
from chassis.tables import LoggedEvent, Watermark, first_id_at, new_id
from chassis.testing import Delivered, StandInSidecar, as_entry, dead_letters
from contracts import Event
from contracts.catalog import ProductUpdated
from contracts.users import UserDeleted, UserLoggedIn
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

HISTORY = "/internal/users/events"
TOKEN = {"dapr-api-token": settings().app_api_token}


class Handler:
    def __init__(self) -> None:
        self.seen: list[UUID] = []
        self.failure: Exception | None = None

    async def __call__(self, _: AsyncSession, events: Sequence[UserDeleted | UserLoggedIn]) -> None:
        if self.failure:
            raise self.failure
        self.seen += [event.user_id for event in events]


@pytest.fixture
def handler() -> Handler:
    return Handler()


@pytest.fixture
def app(concurrent_db: AsyncEngine, handler: Handler) -> FastAPI:
    """Consumer and producer in one: it reads its own log as if it were that of `users`."""
    app = create_app("test", subscriptions={UserDeleted: handler})
    app.include_router(history_routes("users"))
    return app


@pytest.fixture(autouse=True)
def invocations(
    client: httpx.AsyncClient, stand_in: StandInSidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sidecar brings what is invoked to the app itself."""

    async def invoke(_: str, path: str, *, method: str = "GET", body: bytes | None = None) -> Reply:
        if stand_in.away:
            raise SidecarUnavailable("away")
        reply = await client.request(method, f"/{path}", content=body, headers=_JSON)
        return Reply(reply.status_code, reply.headers, reply.content)

    monkeypatch.setattr("chassis.sidecar.sidecar.invoke", invoke)


_JSON = TOKEN | {"content-type": "application/json"}


def deleted() -> UserDeleted:
    return UserDeleted(user_id=uuid4(), occurred_at=datetime.now(UTC))


def logged_in() -> UserLoggedIn:
    return UserLoggedIn(user_id=uuid4(), occurred_at=datetime.now(UTC))


@asynccontextmanager
async def release(handlers: Mapping[type[Event], Handler]) -> AsyncGenerator[httpx.AsyncClient]:
    """Of the same service, with other subscriptions; on the same database."""
    app = create_app("test", subscriptions=handlers)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


async def log_events(*events: Any) -> None:
    async with database.transaction() as session:
        await append(session, *events)


async def let_them_settle() -> None:
    async with database.transaction() as session:
        await session.execute(
            text("UPDATE event_log SET created_at = created_at - interval '1 minute'")
        )


async def refused(client: httpx.AsyncClient, handler: Handler) -> UserDeleted:
    """An event that lies at the desk."""
    event = deleted()
    await log_events(event)
    await let_them_settle()
    handler.failure = ValueError("poison")
    await tick(client)
    handler.failure = None
    return event


async def deliver_logged(deliver: Delivered) -> None:
    """The oldest event of the log, as the broker brings it."""
    async with database.transaction() as session:
        first = (await session.scalars(select(LoggedEvent).order_by(LoggedEvent.sequence))).first()
    assert first
    entry = as_entry(first.topic, first.payload)
    entry["event"]["id"] = str(first.id)
    assert await deliver.raw(first.topic, [entry]) == ["SUCCESS"]


async def tick(client: httpx.AsyncClient) -> None:
    (await client.post("/job/reconcile", headers=TOKEN)).raise_for_status()


async def test_what_the_broker_lost_takes_effect_once(
    client: httpx.AsyncClient, handler: Handler
) -> None:
    lost = [deleted() for _ in range(120)]
    await log_events(*lost)
    await let_them_settle()
    await tick(client)
    await tick(client)
    assert handler.seen == [event.user_id for event in lost]


async def test_what_arrived_is_not_fetched_again(
    client: httpx.AsyncClient, deliver: Delivered, handler: Handler
) -> None:
    await log_events(deleted(), deleted())
    await deliver_logged(deliver)
    await let_them_settle()
    await tick(client)
    assert len(handler.seen) == len(set(handler.seen)) == 2


async def test_an_event_that_may_be_on_its_way_is_left_to_the_broker(
    client: httpx.AsyncClient, handler: Handler
) -> None:
    await log_events(deleted())
    await tick(client)
    assert handler.seen == []


async def test_other_topics_are_not_asked_for(client: httpx.AsyncClient, handler: Handler) -> None:
    event = deleted()
    await log_events(logged_in(), event)
    await let_them_settle()
    await tick(client)
    assert handler.seen == [event.user_id]


async def test_a_producer_that_is_away_is_asked_again_from_the_same_place(
    client: httpx.AsyncClient, handler: Handler, stand_in: StandInSidecar
) -> None:
    await log_events(deleted())
    await let_them_settle()
    stand_in.away = True
    await tick(client)
    stand_in.away = False
    await tick(client)
    assert len(handler.seen) == 1


async def test_the_watermark_waits_for_what_cannot_take_effect_now(
    client: httpx.AsyncClient, handler: Handler
) -> None:
    await log_events(deleted())
    await let_them_settle()
    handler.failure = TimeoutError()
    await tick(client)
    handler.failure = None
    await tick(client)
    assert len(handler.seen) == 1


async def test_poison_goes_to_the_desk_once_and_is_seen(
    client: httpx.AsyncClient, handler: Handler
) -> None:
    await refused(client, handler)
    await tick(client)
    assert [letter.attempts for letter in await dead_letters()] == [1]


async def test_an_event_of_a_transaction_that_commits_late_is_not_passed_over(
    client: httpx.AsyncClient, handler: Handler, concurrent_db: AsyncEngine
) -> None:
    """Its sequence is lower than that of one which committed before it."""
    late, early = deleted(), deleted()
    async with AsyncSession(concurrent_db) as slow:
        await append(slow, late)
        await log_events(early)
        await let_them_settle()
        await tick(client)
        await slow.commit()
    await let_them_settle()
    await tick(client)
    assert set(handler.seen) == {late.user_id, early.user_id}


async def test_a_log_of_several_pages_is_read_to_its_end(
    client: httpx.AsyncClient, handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_history, "PAGE", 7)
    for _ in range(5):
        await log_events(*(deleted() for _ in range(6)))
    await let_them_settle()
    await tick(client)
    assert len(handler.seen) == 30


async def test_a_cursor_of_another_cluster_starts_anew(client: httpx.AsyncClient) -> None:
    await log_events(deleted())
    await let_them_settle()
    page = await history(client, after="another.1/999999999/1")
    assert len(page.events) == 1
    assert (await history(client, after=page.cursor)).events == []


@pytest.mark.parametrize("cursor", ["nonsense", "a/b/c", "since:yesterday"])
async def test_a_bad_cursor_is_refused(client: httpx.AsyncClient, cursor: str) -> None:
    reply = await client.get(HISTORY, params={"after": cursor, "topic": "t"}, headers=TOKEN)
    assert reply.status_code == 400


async def test_only_the_own_sidecar_may_ask(client: httpx.AsyncClient) -> None:
    assert (await client.get(HISTORY, params={"topic": "t"})).status_code == 403
    assert (await client.post(HISTORY, json={"ids": []})).status_code == 403
    assert (await client.post("/internal/test/replay", json={})).status_code == 403


async def history(client: httpx.AsyncClient, after: str) -> HistoryPage:
    query = {"after": after, "topic": UserDeleted.topic}
    reply = await client.get(HISTORY, params=query, headers=TOKEN)
    return HistoryPage.model_validate_json(reply.raise_for_status().content)


async def replayed(client: httpx.AsyncClient, since: datetime | None) -> None:
    body = {"since": since and since.isoformat()}
    (await client.post("/internal/test/replay", json=body, headers=TOKEN)).raise_for_status()


async def replay(client: httpx.AsyncClient, since: datetime | None) -> int:
    """How many events took effect."""
    await replayed(client, since)
    repaired, more = 0, True
    while more:
        reply = await client.post("/internal/test/reconcile", headers=TOKEN)
        pages = reply.raise_for_status().json()
        repaired += sum(page["repaired"] for page in pages)
        more = any(page["more"] for page in pages)
    return repaired


async def test_a_replay_has_everything_take_effect_again(
    client: httpx.AsyncClient, handler: Handler
) -> None:
    await log_events(*(deleted() for _ in range(10)))
    await let_them_settle()
    await tick(client)
    assert await replay(client, since=None) == 10
    assert len(handler.seen) == 20


async def test_a_replay_since_a_time_leaves_alone_what_was_before(
    client: httpx.AsyncClient, handler: Handler
) -> None:
    before, after = deleted(), deleted()
    old = datetime.now(UTC) - timedelta(hours=2)
    await log_events(before)
    async with database.transaction() as session:
        await session.execute(
            text("UPDATE event_log SET id = :id, created_at = :at"),
            {"id": first_id_at(old), "at": old},
        )
    await log_events(after)
    await let_them_settle()
    await tick(client)
    assert await replay(client, since=datetime.now(UTC) - timedelta(hours=1)) == 1
    assert handler.seen == [before.user_id, after.user_id, after.user_id]


async def at_the_desk(client: httpx.AsyncClient, decision: str) -> None:
    """What is decided about the only letter."""
    [letter] = await dead_letters()
    url = f"/internal/test/dead-letters/{letter.id}/{decision}"
    reply = await client.post(url, json={"by": str(uuid4())}, headers=TOKEN)
    assert reply.json()["refusal"] is None


async def test_a_replay_has_replayed_letters_take_effect_again(
    client: httpx.AsyncClient, handler: Handler
) -> None:
    event = await refused(client, handler)
    await at_the_desk(client, "replay")
    assert await replay(client, since=None) == 1
    assert handler.seen == [event.user_id] * 2
    assert [letter.resolution for letter in await dead_letters()] == ["replayed"]


async def test_a_replay_leaves_alone_what_was_discarded(
    client: httpx.AsyncClient, handler: Handler
) -> None:
    await refused(client, handler)
    await at_the_desk(client, "discard")
    assert await replay(client, since=None) == 0


async def test_a_page_that_was_compared_before_a_replay_moves_no_watermark_after_it(
    client: httpx.AsyncClient,
    deliver: Delivered,
    handler: Handler,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It found the inbox complete, which was then forgotten; its cursor is where it was."""
    since = datetime.now(UTC) - timedelta(hours=1)
    await log_events(deleted())
    await let_them_settle()
    await replayed(client, since)
    await deliver_logged(deliver)
    missing = vars(reconciliation)["_missing"]

    async def interrupted(ids: Sequence[UUID]) -> list[UUID]:
        lacking = await missing(ids)
        await replayed(client, since)
        return lacking

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(reconciliation, "_missing", interrupted)
        await tick(client)
    assert len(handler.seen) == 1
    await tick(client)
    assert len(handler.seen) == 2


async def test_a_type_that_is_subscribed_to_later_is_fetched(
    client: httpx.AsyncClient, handler: Handler
) -> None:
    early, late = logged_in(), logged_in()
    await log_events(early, deleted())
    await let_them_settle()
    await tick(client)
    async with release({UserDeleted: handler, UserLoggedIn: handler}) as newer:
        await tick(newer)
        assert handler.seen[1:] == [early.user_id]
        await log_events(late)
        await let_them_settle()
        await tick(client)  # a replica of the former release is still there
        await tick(newer)
    assert handler.seen[2:] == [late.user_id]


async def test_a_watermark_of_a_release_that_did_not_say_what_it_compared_is_not_relied_on(
    client: httpx.AsyncClient, handler: Handler
) -> None:
    await log_events(deleted())
    await let_them_settle()
    end = (await history(client, after="")).cursor
    async with database.transaction() as session:
        session.add(Watermark(producer="users", cursor=end))
    await tick(client)
    assert len(handler.seen) == 1


@pytest.mark.parametrize("trouble", [None, TimeoutError()])
async def test_what_a_former_release_did_not_know_takes_effect_and_leaves_the_desk(
    deliver: Delivered,
    handler: Handler,
    monkeypatch: pytest.MonkeyPatch,
    trouble: Exception | None,
) -> None:
    """Whatever becomes of its neighbour."""
    event, neighbours = deleted(), Handler()
    await log_events(event, logged_in())
    await let_them_settle()
    with monkeypatch.context() as formerly:
        formerly.setattr(consumer, "_EVENTS", {})
        await deliver_logged(deliver)
    assert [letter.resolution for letter in await dead_letters()] == [None]
    neighbours.failure = trouble
    async with release({UserDeleted: handler, UserLoggedIn: neighbours}) as newer:
        await tick(newer)
    assert handler.seen == [event.user_id]
    assert [letter.resolution for letter in await dead_letters()] == ["replayed"]


@pytest.mark.parametrize(("trouble", "status"), [(ZeroDivisionError(), 500), (PoolTimeout(), 200)])
async def test_a_tick_ends_with_all_its_producers(
    handler: Handler, monkeypatch: pytest.MonkeyPatch, trouble: Exception, status: int
) -> None:
    event, failed = deleted(), asyncio.Event()
    await log_events(event)
    await let_them_settle()
    invoke = reconciliation.sidecar.invoke

    async def of_one_only(producer: str, path: str, **request: Any) -> Reply:
        if producer == "catalog":
            failed.set()
            raise trouble
        await failed.wait()
        return await invoke(producer, path, **request)

    monkeypatch.setattr(reconciliation.sidecar, "invoke", of_one_only)
    async with release({ProductUpdated: handler, UserDeleted: handler}) as client:
        assert (await client.post("/job/reconcile", headers=TOKEN)).status_code == status
    assert handler.seen == [event.user_id]


async def test_a_tick_that_meets_the_one_before_does_nothing(
    client: httpx.AsyncClient, handler: Handler
) -> None:
    await log_events(*(deleted() for _ in range(20)))
    await let_them_settle()
    await asyncio.gather(*(tick(client) for _ in range(5)))
    assert len(handler.seen) == 20


@given(st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2100, 1, 1)))  # noqa: DTZ001  # hypothesis adds the zone
def test_no_id_made_later_is_smaller_than_the_first_one_of_a_time(naive: datetime) -> None:
    time = naive.replace(tzinfo=UTC)
    assert first_id_at(time) <= first_id_at(time + timedelta(milliseconds=1))
    assert first_id_at(datetime.now(UTC) - timedelta(milliseconds=5)) < new_id()
