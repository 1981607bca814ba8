"""Batch consumption: once each, in one transaction, poison alone, passing trouble retried."""

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest
from chassis.app import create_app
from chassis.database import database
from chassis.delivery import split
from chassis.event_log import append
from chassis.sidecar import SidecarUnavailable
from chassis.tables import LoggedEvent
from chassis.testing import Delivered, as_entry, dead_letters, logged
from contracts.users import UserDeleted, UserLoggedIn
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

TOPIC = UserDeleted.topic
TRACE = "00-{:032x}-00f067aa0ba902b7-01"


class Handler:
    """Answers a `user.deleted` with a `user.logged_in` of the same user; fails when told to."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.fail_on: dict[str, Exception] = {}

    async def __call__(self, session: AsyncSession, events: Sequence[UserDeleted]) -> None:
        self.batches.append(len(events))
        for event in events:
            if failure := self.fail_on.get(event.key):
                raise failure
        await append(
            session,
            *(UserLoggedIn(user_id=e.user_id, occurred_at=e.occurred_at) for e in events),
        )


@pytest.fixture
def handler() -> Handler:
    return Handler()


@pytest.fixture
def app(db: AsyncConnection, handler: Handler) -> FastAPI:
    return create_app("test", subscriptions={UserDeleted: handler})


def entry(**attributes: Any) -> dict[str, Any]:
    event = UserDeleted(user_id=uuid4(), occurred_at=datetime.now(UTC))
    return as_entry(TOPIC, event.model_dump(mode="json"), **attributes)


def key_of(delivered: dict[str, Any]) -> str:
    return delivered["event"]["data"]["user_id"]


async def test_a_batch_is_handled_in_one_transaction(deliver: Delivered, handler: Handler) -> None:
    entries = [entry() for _ in range(20)]
    assert await deliver.raw(TOPIC, entries) == ["SUCCESS"] * 20
    assert handler.batches == [20]
    assert len(await logged(UserLoggedIn)) == 20


async def test_an_event_delivered_again_has_no_second_effect(
    deliver: Delivered, handler: Handler
) -> None:
    first, second, third = entry(), entry(), entry()
    await deliver.raw(TOPIC, [first, second])
    await deliver.raw(TOPIC, [second, third, first])
    await deliver.raw(TOPIC, [third, third])
    assert handler.batches == [2, 1]


async def test_passing_trouble_asks_for_the_whole_batch_again(
    deliver: Delivered, handler: Handler
) -> None:
    entries = [entry() for _ in range(4)]
    handler.fail_on[key_of(entries[2])] = SidecarUnavailable("away")
    assert await deliver.raw(TOPIC, entries) == ["RETRY"] * 4
    assert await logged(UserLoggedIn) == []

    handler.fail_on.clear()
    assert await deliver.raw(TOPIC, entries) == ["SUCCESS"] * 4
    assert len(await logged(UserLoggedIn)) == 4
    assert await dead_letters() == []


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(poisoned=st.sets(st.integers(0, 11)))
async def test_poison_stands_alone_wherever_it_lies(
    deliver: Delivered, handler: Handler, poisoned: set[int]
) -> None:
    before = len(await dead_letters()), len(await logged(UserLoggedIn))
    entries = [entry() for _ in range(12)]
    handler.fail_on = {key_of(entries[n]): ValueError("never") for n in poisoned}
    assert await deliver.raw(TOPIC, entries) == ["SUCCESS"] * 12
    assert len(await dead_letters()) - before[0] == len(poisoned)
    assert len(await logged(UserLoggedIn)) - before[1] == 12 - len(poisoned)


async def test_the_desk_keeps_the_event_and_the_reason_and_counts_the_attempts(
    deliver: Delivered, handler: Handler
) -> None:
    poison = entry(producertrace=TRACE.format(7))
    handler.fail_on[key_of(poison)] = ValueError("no such thing")
    for _ in range(2):
        assert await deliver.raw(TOPIC, [poison]) == ["SUCCESS"]

    [letter] = await dead_letters()
    assert str(letter.event_id) == poison["event"]["id"]
    assert letter.reason == "ValueError('no such thing')"
    assert letter.trace_parent == TRACE.format(7)
    assert letter.attempts == 2


@pytest.mark.parametrize(
    "rubbish",
    ["text", None, 7, {}, {"id": "?", "type": TOPIC, "data": {}}, {"id": str(uuid4()), "data": []}],
)
async def test_what_is_no_event_goes_to_the_desk(deliver: Delivered, rubbish: Any) -> None:
    good = entry()
    outcomes = await deliver.raw(TOPIC, [{"entryId": "bad", "event": rubbish}, good])
    assert outcomes == ["SUCCESS", "SUCCESS"]
    assert len(await dead_letters()) == 1
    assert len(await logged(UserLoggedIn)) == 1


@pytest.mark.parametrize("text", ["a\x00b", "half \ud83d a pair"])
async def test_poison_that_the_database_cannot_hold_is_kept_all_the_same(
    deliver: Delivered, handler: Handler, text: str
) -> None:
    strange = as_entry(TOPIC, {"user_id": text}, type=text, producertrace=text)
    [outcome] = await deliver.raw(TOPIC, [strange])
    assert outcome == "SUCCESS"
    assert len(await dead_letters()) == 1


DEEP = "[" * 5_000 + "]" * 5_000


SIDECAR = {
    "dapr-api-token": "the-token-of-the-sidecar-in-tests",
    "content-type": "application/json",
}


async def deliver_text(client: httpx.AsyncClient, body: str) -> dict[str, str]:
    """The statuses by the entries' ids."""
    reply = await client.post("/events", content=body.encode(), headers=SIDECAR)
    statuses = reply.raise_for_status().json()["statuses"]
    return {status["entryId"]: status["status"] for status in statuses}


@pytest.mark.parametrize(
    "unreadable",
    [
        f'{{"event": {{"data": {DEEP}}}, "entryId": "bad"}}',
        f'{{"entryId": "bad", "event": {DEEP}, "metadata": {{"entryId": "other"}}}}',
        '{"entryId": "bad", "event": {"data": 1' + "0" * 5_000 + "}}",
        '{"entryId": "bad", "event": {"text": "half \\ud83d a pair"}}',
    ],
)
async def test_a_delivery_with_an_unreadable_entry_loses_only_that(
    client: httpx.AsyncClient, handler: Handler, unreadable: str
) -> None:
    misleading = entry(producertrace='quoted \\" and ]} {[ "entryId": "bad"')
    good = [json.dumps(each) for each in (entry(), misleading, entry())]
    body = (
        f'{{"id": "1", "entries": [{good[0]}, {unreadable}, {", ".join(good[1:])}], "type": "x"}}'
    )
    for _ in range(2):
        statuses = await deliver_text(client, body)
        assert (statuses["bad"], set(statuses.values()), len(statuses)) == (
            "SUCCESS",
            {"SUCCESS"},
            4,
        )
    assert handler.batches == [3]
    [letter] = await dead_letters()
    assert (letter.topic, letter.attempts) == ("unknown", 2)
    assert letter.payload in unreadable


@settings(deadline=None)
@given(
    st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers(-9, 9) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        )
    )
)
def test_entries_are_told_apart_without_reading_them(events: list[Any]) -> None:
    entries = [{"entryId": str(n), "event": event} for n, event in enumerate(events)]
    body = json.dumps({"metadata": {"a": "[{"}, "entries": entries, "id": "]"})
    found = split(body)
    assert [each.entryId for each in found] == [each["entryId"] for each in entries]
    for each, sent in zip(found, entries, strict=True):
        whole = not isinstance(sent["event"], list | dict)
        assert json.loads(each.event) == (sent if whole else sent["event"])


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"entries": 7}', '{"entries": [{"event": 1}]}'])
async def test_what_is_no_delivery_is_refused(client: httpx.AsyncClient, body: str) -> None:
    assert (await client.post("/events", content=body, headers=SIDECAR)).status_code == 400


async def test_what_follows_from_an_event_continues_its_trace(deliver: Delivered) -> None:
    entries = [entry(producertrace=TRACE.format(n)) for n in (1, 2, 3)]
    await deliver.raw(TOPIC, entries)
    async with database.transaction() as session:
        rows = (await session.execute(select(LoggedEvent.key, LoggedEvent.trace_parent))).all()
    assert {row.key: row.trace_parent for row in rows} == {
        key_of(e): e["event"]["producertrace"] for e in entries
    }


async def test_undeliverable_events_come_to_the_desk(
    client: httpx.AsyncClient, deliver: Delivered
) -> None:
    subscriptions = (await client.get("/dapr/subscribe")).json()
    assert [(s["pubsubname"], s["topic"], s["route"]) for s in subscriptions] == [
        ("dead-letters", "test.dead-letters", "/events/dead-letters")
    ]
    token = {"dapr-api-token": "the-token-of-the-sidecar-in-tests"}
    for undelivered in (json.dumps(entry()["event"]).encode(), b"\xff rubbish", DEEP.encode()):
        body = {"data_base64": base64.b64encode(undelivered).decode()}
        reply = await client.post("/events/dead-letters", json=body, headers=token)
        assert reply.json() == {"status": "SUCCESS"}
    assert {letter.topic for letter in await dead_letters()} == {TOPIC, "unknown"}


async def test_a_delivery_may_mix_types_and_hold_one_that_nobody_knows(
    app: FastAPI, deliver: Delivered, handler: Handler
) -> None:
    unknown = as_entry("moon.landed", {})
    for_others = as_entry("product.updated", {})
    entries = [entry(), unknown, for_others, entry()]
    assert await deliver.raw(TOPIC, entries) == ["SUCCESS"] * 4
    assert handler.batches == [2]
    [letter] = await dead_letters()
    assert (letter.topic, letter.reason) == ("moon.landed", "UnknownEventType('moon.landed')")


async def test_a_broken_connection_is_passing_trouble(deliver: Delivered, handler: Handler) -> None:
    only = entry()
    lost = OperationalError("", None, Exception(), connection_invalidated=True)
    handler.fail_on[key_of(only)] = lost
    assert await deliver.raw(TOPIC, [only]) == ["RETRY"]


async def test_a_statement_that_took_too_long_is_passing_trouble(
    db: AsyncConnection, client: httpx.AsyncClient, deliver: Delivered, app: FastAPI
) -> None:
    async def slow(session: AsyncSession, _: Sequence[UserDeleted]) -> None:
        await session.execute(text("SET LOCAL statement_timeout = 10"))
        await session.execute(text("SELECT pg_sleep(5)"))

    slow_app = create_app("slow", subscriptions={UserDeleted: slow})
    transport = httpx.ASGITransport(slow_app)
    async with httpx.AsyncClient(transport=transport, base_url="http://slow") as caller:
        assert await Delivered(caller).raw(TOPIC, [entry()]) == ["RETRY"]
