"""Refreshing, logging out, and what a stolen refresh token is worth."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from chassis.database import database
from chassis.testing import bearer
from fastapi import FastAPI
from sqlalchemy import text
from users.app import app as users_app
from users.use_cases import sweep_expired

Register = Callable[..., Awaitable[httpx.Response]]
LogIn = Callable[..., Awaitable[dict[str, Any]]]


async def refresh(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/users/refresh", json={"refresh_token": token})


async def run(statement: str) -> None:
    async with database.transaction() as session:
        await session.execute(text(statement))


async def count(table: str) -> int:
    async with database.transaction() as session:
        return await session.scalar(text(f"SELECT count(*) FROM {table}")) or 0


async def pass_the_grace() -> None:
    await run("UPDATE refresh_tokens SET spent_at = spent_at - interval '11 s'")


@pytest.fixture
async def tokens(register: Register, log_in: LogIn) -> dict[str, Any]:
    await register()
    return await log_in()


async def test_a_refresh_token_is_exchanged_for_the_next(
    client: httpx.AsyncClient, tokens: dict[str, Any]
) -> None:
    reply = await refresh(client, tokens["refresh_token"])

    assert reply.status_code == 200
    assert reply.headers["cache-control"] == "no-store"
    assert reply.json()["refresh_token"] != tokens["refresh_token"]
    headers = {"Authorization": f"Bearer {reply.json()['access_token']}"}
    assert (await client.get("/users/me", headers=headers)).status_code == 200
    assert (await refresh(client, reply.json()["refresh_token"])).status_code == 200


async def test_a_repeated_exchange_gets_the_same_successor(
    client: httpx.AsyncClient, tokens: dict[str, Any]
) -> None:
    first = await refresh(client, tokens["refresh_token"])
    again = await refresh(client, tokens["refresh_token"])

    assert again.status_code == 200
    assert again.json()["refresh_token"] == first.json()["refresh_token"]
    assert (await refresh(client, first.json()["refresh_token"])).status_code == 200


async def test_reusing_a_spent_token_revokes_the_session(
    client: httpx.AsyncClient, tokens: dict[str, Any]
) -> None:
    successor = (await refresh(client, tokens["refresh_token"])).json()["refresh_token"]
    await pass_the_grace()

    reused = await refresh(client, tokens["refresh_token"])

    assert reused.status_code == 401
    assert reused.json()["type"] == "urn:waybill:problem:invalid-refresh-token"
    assert (await refresh(client, successor)).status_code == 401
    assert await count("sessions") == await count("refresh_tokens") == 0


async def test_a_stolen_token_does_not_end_other_sessions(
    client: httpx.AsyncClient, tokens: dict[str, Any], log_in: LogIn
) -> None:
    other = await log_in()
    await refresh(client, tokens["refresh_token"])
    await pass_the_grace()
    await refresh(client, tokens["refresh_token"])

    assert (await refresh(client, other["refresh_token"])).status_code == 200


async def test_past_the_grace_the_database_leads_to_no_token(
    client: httpx.AsyncClient, tokens: dict[str, Any]
) -> None:
    second = (await refresh(client, tokens["refresh_token"])).json()["refresh_token"]
    await pass_the_grace()
    await refresh(client, second)

    async with database.transaction() as session:
        seeds = await session.scalars(
            text("SELECT successor_seed FROM refresh_tokens ORDER BY spent_at LIMIT 2")
        )
        assert [seed is None for seed in seeds] == [True, False]


async def test_a_refresh_rewrites_no_token_that_was_forgotten_before(
    client: httpx.AsyncClient, tokens: dict[str, Any]
) -> None:
    token = tokens["refresh_token"]
    for _ in range(3):
        token = (await refresh(client, token)).json()["refresh_token"]
        await pass_the_grace()
    before = await row_versions_of_forgotten()
    await refresh(client, token)

    assert len(before) == 2
    assert before < await row_versions_of_forgotten()


async def row_versions_of_forgotten() -> set[str]:
    query = """
        SELECT ctid::text FROM refresh_tokens
        WHERE spent_at IS NOT NULL AND successor_seed IS NULL
    """
    async with database.transaction() as session:
        return set(await session.scalars(text(query)))


@pytest.mark.parametrize("token", ["x", "A" * 43])
async def test_an_unknown_token_is_not_valid(client: httpx.AsyncClient, token: str) -> None:
    assert (await refresh(client, token)).status_code == 401


@pytest.mark.parametrize("token", ["", "a b", "é", "\x00", "a" * 101])
async def test_what_cannot_be_a_token_names_the_field(
    client: httpx.AsyncClient, token: str
) -> None:
    reply = await refresh(client, token)

    assert reply.status_code == 422
    assert reply.json()["errors"][0]["field"] == "refresh_token"


async def test_an_expired_token_is_not_valid(
    client: httpx.AsyncClient, tokens: dict[str, Any]
) -> None:
    await run("UPDATE refresh_tokens SET expires_at = now()")

    assert (await refresh(client, tokens["refresh_token"])).status_code == 401


async def test_logging_out_ends_the_session_of_the_token(
    client: httpx.AsyncClient, tokens: dict[str, Any], log_in: LogIn
) -> None:
    other = await log_in()

    for _ in range(2):
        reply = await client.post("/users/logout", headers=tokens["headers"])
        assert reply.status_code == 204

    assert (await refresh(client, tokens["refresh_token"])).status_code == 401
    assert (await refresh(client, other["refresh_token"])).status_code == 200


async def test_logging_out_without_a_session_ends_none(
    client: httpx.AsyncClient, tokens: dict[str, Any]
) -> None:
    me = (await client.get("/users/me", headers=tokens["headers"])).json()

    reply = await client.post("/users/logout", headers=bearer(me["id"]))

    assert reply.status_code == 204
    assert await count("sessions") == 1


async def test_a_customer_sees_their_own_sessions(
    client: httpx.AsyncClient, tokens: dict[str, Any], log_in: LogIn, register: Register
) -> None:
    second = await log_in()
    await register(email="bob@waybill.example")
    await log_in("bob@waybill.example")

    page = (await client.get("/users/me/sessions", headers=second["headers"])).json()

    assert (page["page"], page["page_size"], page["total"]) == (1, 20, 2)
    assert [item["current"] for item in page["items"]] == [True, False]
    assert all(item["user_agent"].startswith("python-httpx") for item in page["items"])
    assert "bob" not in str(page)


async def test_a_customer_ends_one_session(
    client: httpx.AsyncClient, tokens: dict[str, Any], log_in: LogIn
) -> None:
    second = await log_in()
    page = (await client.get("/users/me/sessions", headers=second["headers"])).json()
    [first] = [item["id"] for item in page["items"] if not item["current"]]

    reply = await client.delete(f"/users/me/sessions/{first}", headers=second["headers"])

    assert reply.status_code == 204
    assert (await refresh(client, tokens["refresh_token"])).status_code == 401
    assert (await refresh(client, second["refresh_token"])).status_code == 200


async def test_someone_elses_session_does_not_exist(
    client: httpx.AsyncClient, tokens: dict[str, Any]
) -> None:
    page = (await client.get("/users/me/sessions", headers=tokens["headers"])).json()
    [own] = page["items"]

    reply = await client.delete(f"/users/me/sessions/{own['id']}", headers=bearer(uuid4()))

    assert reply.status_code == 404
    assert await count("sessions") == 1


async def test_a_customer_logs_out_everywhere(
    client: httpx.AsyncClient, tokens: dict[str, Any], log_in: LogIn
) -> None:
    second = await log_in()

    reply = await client.delete("/users/me/sessions", headers=second["headers"])

    assert reply.status_code == 204
    for token in (tokens["refresh_token"], second["refresh_token"]):
        assert (await refresh(client, token)).status_code == 401


async def test_the_oldest_sessions_give_way(
    client: httpx.AsyncClient,
    tokens: dict[str, Any],
    log_in: LogIn,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("users.store.MOST_SESSIONS", 2)
    second, third = await log_in(), await log_in()

    assert (await refresh(client, tokens["refresh_token"])).status_code == 401
    assert (await refresh(client, second["refresh_token"])).status_code == 200
    assert (await refresh(client, third["refresh_token"])).status_code == 200


async def test_what_has_expired_is_swept_away(
    client: httpx.AsyncClient, tokens: dict[str, Any], log_in: LogIn
) -> None:
    await run("UPDATE refresh_tokens SET expires_at = now()")
    await run("UPDATE sessions SET expires_at = now()")
    alive = await log_in()

    assert await sweep_expired() == 2
    assert await sweep_expired() == 0
    assert (await refresh(client, alive["refresh_token"])).status_code == 200


async def test_spent_tokens_of_a_living_session_are_swept_away(
    client: httpx.AsyncClient, tokens: dict[str, Any]
) -> None:
    successor = (await refresh(client, tokens["refresh_token"])).json()["refresh_token"]
    await run("UPDATE refresh_tokens SET expires_at = now() WHERE spent_at IS NOT NULL")

    assert await sweep_expired() == 1
    assert (await refresh(client, successor)).status_code == 200


@pytest.mark.usefixtures("concurrent_db")
class TestAtTheSameTime:
    """Real transactions, many at once."""

    @pytest.fixture
    def app(self) -> FastAPI:
        return users_app

    async def test_one_of_many_registrations_of_an_email_wins(self, register: Register) -> None:
        passwords = [f"password number {number}" for number in range(8)]

        replies = await asyncio.gather(*(register(password=password) for password in passwords))

        assert sorted(reply.status_code for reply in replies) == [201] + 7 * [409]
        assert await count("users") == await count("event_log") == 1

    async def test_a_registration_sent_many_times_happens_once(self, register: Register) -> None:
        replies = await asyncio.gather(*(register() for _ in range(8)))

        assert {reply.status_code for reply in replies} == {201}
        assert len({reply.json()["id"] for reply in replies}) == 1
        assert await count("users") == await count("event_log") == 1

    async def test_exchanges_of_one_token_agree_on_the_successor(
        self, client: httpx.AsyncClient, tokens: dict[str, Any]
    ) -> None:
        replies = await asyncio.gather(
            *(refresh(client, tokens["refresh_token"]) for _ in range(8))
        )

        assert {reply.status_code for reply in replies} == {200}
        assert len({reply.json()["refresh_token"] for reply in replies}) == 1
        assert await count("refresh_tokens") == 2

    async def test_exchanging_and_logging_out_do_not_wait_for_each_other(
        self, client: httpx.AsyncClient, tokens: dict[str, Any], log_in: LogIn
    ) -> None:
        others = [await log_in() for _ in range(3)]
        calls = [refresh(client, login["refresh_token"]) for login in [tokens, *others]]
        everywhere = client.delete("/users/me/sessions", headers=tokens["headers"])

        replies = await asyncio.gather(everywhere, *calls)

        assert replies[0].status_code == 204
        assert {reply.status_code for reply in replies[1:]} <= {200, 401}
        assert await count("sessions") == await count("refresh_tokens") == 0
