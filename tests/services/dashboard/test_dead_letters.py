"""The desks of all services as one, for staff."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from chassis.identity import Role
from chassis.sidecar import Reply, SidecarUnavailable
from chassis.testing import Delivered, StandInSidecar, bearer, dead_letters
from dashboard.dead_letters import ELSEWHERE
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

NOW = datetime.now(UTC)
SOMEBODY = uuid4()
STAFF = bearer(SOMEBODY, Role.STAFF)
LIST_OF_20 = "internal/{0}/dead-letters?limit=20"


def letter(service: str, minutes_ago: float) -> dict[str, Any]:
    return {
        "id": f"{service}:{uuid4()}",
        "service": service,
        "topic": "order.created",
        "event_id": str(uuid4()),
        "reason": "ValueError('no such thing')",
        "attempts": 1,
        "trace_id": None,
        "received_at": (NOW - timedelta(minutes=minutes_ago)).isoformat(),
        "payload": "{}",
        "payload_length": 2,
    }


def holds(
    stand_in: StandInSidecar, service: str, *letters: dict[str, Any], limit: int = 20
) -> None:
    path = f"internal/{service}/dead-letters?limit={limit}"
    stand_in.answer(service, path, {"items": letters[:limit], "total": len(letters)})


@pytest.fixture
def clear(stand_in: StandInSidecar) -> StandInSidecar:
    """All other desks answer, and are empty."""
    for service in ELSEWHERE:
        holds(stand_in, service)
    return stand_in


async def listed(client: httpx.AsyncClient, **query: Any) -> Any:
    reply = await client.get("/dead-letters", params=query, headers=STAFF)
    return reply.raise_for_status().json()


async def own_letter(deliver: Delivered) -> str:
    await deliver.raw("moon.landed", [{"entryId": "1", "event": {"type": "moon.landed"}}])
    return f"dashboard:{(await dead_letters())[0].id}"


async def test_the_letters_of_all_services_are_listed_newest_first(
    client: httpx.AsyncClient, clear: StandInSidecar, deliver: Delivered, db: AsyncConnection
) -> None:
    own = await own_letter(deliver)
    between = NOW - timedelta(seconds=150)
    await db.execute(text("UPDATE dead_letters SET received_at = :at"), {"at": between})
    orders = [letter("orders", 1), letter("orders", 4)]
    payments = [letter("payments", 2), letter("payments", 3)]
    holds(clear, "orders", *orders)
    holds(clear, "payments", *payments)

    found = await listed(client)
    assert [item["id"] for item in found["items"]] == [
        orders[0]["id"],
        payments[0]["id"],
        own,
        payments[1]["id"],
        orders[1]["id"],
    ]
    assert (found["total"], found["unreachable"]) == (5, [])
    assert {app for app, _ in clear.calls} == set(ELSEWHERE)


async def test_pages_follow_each_other(client: httpx.AsyncClient, clear: StandInSidecar) -> None:
    letters = [letter("orders" if n % 2 else "tracking", n) for n in range(7)]
    seen: list[str] = []
    for page in (1, 2, 3, 4):
        for service in ELSEWHERE:
            own = [each for each in letters if each["service"] == service]
            holds(clear, service, *own, limit=page * 2)
        found = await listed(client, page=page, page_size=2)
        assert found["total"] == 7
        seen += [item["id"] for item in found["items"]]
    assert seen == [each["id"] for each in letters]


async def test_one_services_letters_are_asked_of_it_alone(
    client: httpx.AsyncClient, stand_in: StandInSidecar
) -> None:
    holds(stand_in, "tracking", letter("tracking", 1))
    assert (await listed(client, service="tracking"))["total"] == 1
    assert [app for app, _ in stand_in.calls] == ["tracking"]


def gone() -> Reply:
    raise SidecarUnavailable("away")


@pytest.mark.parametrize("trouble", ["away", "error", "nonsense"])
async def test_a_service_that_is_away_does_not_hide_the_others(
    client: httpx.AsyncClient, clear: StandInSidecar, trouble: str
) -> None:
    holds(clear, "orders", letter("orders", 1))
    clear.answers["payments", LIST_OF_20.format("payments")] = {
        "away": gone,
        "error": lambda: Reply(500, {}, b"{}"),
        "nonsense": lambda: Reply(200, {}, b"<html>"),
    }[trouble]

    found = await listed(client)
    assert (found["total"], found["unreachable"]) == (1, ["payments"])


@pytest.mark.parametrize(
    "query", [{"page": 11}, {"page": 0}, {"page_size": 51}, {"service": "catalog"}]
)
async def test_pages_are_bounded(client: httpx.AsyncClient, query: dict[str, Any]) -> None:
    reply = await client.get("/dead-letters", params=query, headers=STAFF)
    assert reply.status_code == 422


@pytest.mark.parametrize("verb", ["replay", "discard"])
async def test_a_decision_goes_to_the_service_with_the_name_of_who_decided(
    client: httpx.AsyncClient, stand_in: StandInSidecar, verb: str
) -> None:
    number = uuid4()
    decision = {
        "id": f"orders:{number}",
        "resolution": f"{verb}ed",
        "resolved_at": NOW.isoformat(),
        "resolved_by": str(SOMEBODY),
    }
    decision["resolution"] = {"replay": "replayed", "discard": "discarded"}[verb]
    path = f"internal/orders/dead-letters/{number}/{verb}"
    stand_in.answer("orders", path, {**decision, "attempts": 1, "refusal": None})

    reply = await client.post(f"/dead-letters/orders:{number}/{verb}", headers=STAFF)
    assert reply.status_code == 200
    assert reply.json() == decision | {"resolved_at": reply.json()["resolved_at"]}
    assert stand_in.calls == [("orders", path)]
    assert json.loads(stand_in.bodies[0] or b"") == {"by": str(SOMEBODY)}


async def test_a_refusal_is_a_conflict_that_tells_the_reason(
    client: httpx.AsyncClient, stand_in: StandInSidecar
) -> None:
    number = uuid4()
    refused = {
        "id": f"orders:{number}",
        "resolution": None,
        "resolved_at": None,
        "resolved_by": None,
        "attempts": 3,
        "refusal": "ValueError('still')",
    }
    stand_in.answer("orders", f"internal/orders/dead-letters/{number}/replay", refused)

    reply = await client.post(f"/dead-letters/orders:{number}/replay", headers=STAFF)
    assert reply.status_code == 409
    problem = reply.json()
    assert problem["type"] == "urn:waybill:problem:still-refused"
    assert (problem["detail"], problem["attempts"]) == ("ValueError('still')", 3)


async def test_a_decision_on_a_letter_of_a_service_that_is_away_may_be_tried_again(
    client: httpx.AsyncClient, stand_in: StandInSidecar
) -> None:
    number = uuid4()
    stand_in.answers["orders", f"internal/orders/dead-letters/{number}/replay"] = gone
    reply = await client.post(f"/dead-letters/orders:{number}/replay", headers=STAFF)
    assert reply.status_code == 503


async def test_its_own_letters_are_decided_on_here(
    client: httpx.AsyncClient, stand_in: StandInSidecar, deliver: Delivered
) -> None:
    own = await own_letter(deliver)
    found = await client.get(f"/dead-letters/{own}", headers=STAFF)
    assert json.loads(found.json()["payload"]) == {"type": "moon.landed"}
    refused = await client.post(f"/dead-letters/{own}/replay", headers=STAFF)
    assert (refused.status_code, refused.json()["attempts"]) == (409, 2)
    for _ in range(2):
        discarded = await client.post(f"/dead-letters/{own}/discard", headers=STAFF)
        assert discarded.json()["resolution"] == "discarded"
        assert discarded.json()["resolved_by"] == str(SOMEBODY)
    assert (await client.get(f"/dead-letters/{own}", headers=STAFF)).status_code == 404
    assert stand_in.calls == []


async def test_a_letter_that_is_not_there_is_not_found(
    client: httpx.AsyncClient, stand_in: StandInSidecar
) -> None:
    number = uuid4()
    stand_in.answer("orders", f"internal/orders/dead-letters/{number}/replay", None)
    for letter_id in (f"orders:{number}", f"dashboard:{number}", f"catalog:{number}", "orders:x"):
        reply = await client.post(f"/dead-letters/{letter_id}/replay", headers=STAFF)
        assert reply.status_code == 404, letter_id


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        (bearer(uuid4()), 403),
        (bearer(uuid4(), Role.CARRIER), 403),
        (bearer(uuid4(), Role.ADMIN), 404),
    ],
    ids=["nobody", "customer", "carrier", "admin"],
)
async def test_the_desk_is_for_staff(
    client: httpx.AsyncClient, stand_in: StandInSidecar, headers: dict[str, str], status: int
) -> None:
    own = f"/dead-letters/dashboard:{uuid4()}"
    for method, path in (("GET", own), ("POST", f"{own}/replay"), ("POST", f"{own}/discard")):
        assert (await client.request(method, path, headers=headers)).status_code == status
    if status != 404:
        assert (await client.get("/dead-letters", headers=headers)).status_code == status
