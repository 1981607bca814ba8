"""The HTTP contract of `users`."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import httpx
import jwt
import pytest
from chassis.database import database
from chassis.identity import Role, token_verifier
from chassis.testing import bearer, logged
from contracts.users import UserDeleted, UserLoggedIn, UserRegistered, UserUpdated
from sqlalchemy import func, select, text
from users.domain import Account
from users.passwords import Passwords, passwords
from users.settings import PasswordSettings

PASSWORD = "correct horse battery staple"
ADDRESS = {"line1": "1 Long Lane", "city": "Oslo", "postal_code": "0150", "country": "NO"}
ADMIN = bearer(uuid4(), Role.ADMIN)

Register = Callable[..., Awaitable[httpx.Response]]
LogIn = Callable[..., Awaitable[dict[str, Any]]]


async def rows_of_accounts() -> int:
    async with database.transaction() as session:
        return await session.scalar(select(func.count()).select_from(Account)) or 0


async def everything_stored() -> str:
    """All rows of all tables, as text."""
    tables = ("users", "sessions", "refresh_tokens", "event_log", "idempotency_keys")
    async with database.transaction() as session:
        rows = [
            row
            for table in tables
            for row in await session.scalars(text(f"SELECT t::text FROM {table} t"))
        ]
    return "\n".join(rows)


async def test_a_registered_customer_is_told_who_they_are(register: Register) -> None:
    reply = await register(email="Ann@Waybill.Example", name=" Ann ")

    assert reply.status_code == 201, reply.text
    user = reply.json()
    assert user["email"] == "ann@waybill.example"
    assert (user["name"], user["role"], user["version"]) == ("Ann", "customer", 1)
    assert not {"password", "password_hash"} & set(user)
    [registered] = await logged(UserRegistered)
    assert str(registered.user_id) == user["id"]
    assert (registered.email, registered.name) == ("ann@waybill.example", "Ann")


async def test_a_role_cannot_be_asked_for(register: Register) -> None:
    reply = await register(role="admin")

    assert reply.json()["role"] == "customer"


async def test_a_taken_email_is_a_conflict_in_any_spelling(register: Register) -> None:
    await register()

    reply = await register(email="ANN@waybill.EXAMPLE", password="something else")

    assert reply.status_code == 409
    assert reply.json()["type"] == "urn:waybill:problem:email-taken"
    assert await rows_of_accounts() == 1
    assert len(await logged(UserRegistered)) == 1


async def test_a_repeated_registration_gets_the_first_answer(register: Register) -> None:
    first = await register()

    second = await register()

    assert second.status_code == 201
    assert second.json() == first.json()
    assert second.headers["idempotent-replayed"] == "true"
    assert await rows_of_accounts() == 1
    assert len(await logged(UserRegistered)) == 1


async def test_a_registration_under_another_name_is_no_repeat(register: Register) -> None:
    await register()

    assert (await register(name="Anna")).status_code == 409


async def test_an_old_account_is_not_registered_again(register: Register) -> None:
    await register()
    async with database.transaction() as session:
        await session.execute(text("UPDATE users SET created_at = created_at - interval '61 s'"))

    assert (await register()).status_code == 409


@pytest.mark.parametrize(
    ("fields", "field", "rule"),
    [
        ({"email": "ann"}, "email", "value_error"),
        ({"email": "a" * 250 + "@x.example"}, "email", "string_too_long"),
        ({"email": None}, "email", "string_type"),
        ({"password": "1234567"}, "password", "string_too_short"),
        ({"password": "1" * 129}, "password", "string_too_long"),
        ({"name": " "}, "name", "string_too_short"),
        ({"name": "a" * 201}, "name", "string_too_long"),
        ({"name": "A\u0000nn"}, "name", "string_pattern_mismatch"),
        ({"name": "Ann\r\nBcc: all@waybill.example"}, "name", "string_pattern_mismatch"),
        ({"name": "\ud800"}, "name", "string_unicode"),
    ],
)
async def test_a_bad_registration_names_the_field_and_the_rule(
    register: Register, fields: dict[str, Any], field: str, rule: str
) -> None:
    reply = await register(**fields)

    assert reply.status_code == 422, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    [violation] = reply.json()["errors"]
    assert (violation["field"], violation["in"], violation["rule"]) == (field, "body", rule)
    assert await rows_of_accounts() == 0


async def test_malformed_json_is_a_problem(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/json"}
    reply = await client.post("/users/register", content=b'{"email": ', headers=headers)

    assert reply.status_code == 400
    assert reply.headers["content-type"] == "application/problem+json"
    assert await rows_of_accounts() == 0


@pytest.mark.parametrize("body", [b"[]", b"null", b"3", b'"x"', b""])
async def test_json_that_is_no_object_is_a_problem(client: httpx.AsyncClient, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    reply = await client.post("/users/register", content=body, headers=headers)

    assert reply.status_code == 422
    assert reply.json()["errors"]


async def test_a_huge_body_is_refused(register: Register) -> None:
    reply = await register(name="a" * 10_000_000)

    assert reply.status_code == 413
    assert reply.headers["content-type"] == "application/problem+json"
    assert await rows_of_accounts() == 0


async def test_a_huge_body_of_unknown_length_is_refused(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(160):
            yield b" " * 65_536

    headers = {"Content-Type": "application/json"}
    reply = await client.post("/users/register", content=chunks(), headers=headers)

    assert reply.status_code == 413
    assert await rows_of_accounts() == 0


async def test_a_login_hands_over_tokens(
    client: httpx.AsyncClient, register: Register, log_in: LogIn
) -> None:
    user = (await register()).json()

    tokens = await log_in("ANN@waybill.example")

    assert tokens["token_type"] == "Bearer"
    assert tokens["expires_in"] == 900
    caller = await token_verifier.verify(tokens["access_token"])
    assert (str(caller.user_id), caller.role) == (user["id"], Role.CUSTOMER)
    me = await client.get("/users/me", headers=tokens["headers"])
    assert me.json() == user
    [event] = await logged(UserLoggedIn)
    assert str(event.user_id) == user["id"]


async def test_tokens_are_not_to_be_cached(client: httpx.AsyncClient, register: Register) -> None:
    await register()
    credentials = {"email": "ann@waybill.example", "password": PASSWORD}

    reply = await client.post("/users/login", json=credentials)

    assert reply.headers["cache-control"] == "no-store"


async def test_neither_passwords_nor_tokens_are_stored(register: Register, log_in: LogIn) -> None:
    await register()
    tokens = await log_in()

    stored = await everything_stored()

    assert "ann@waybill.example" in stored
    assert PASSWORD not in stored
    assert tokens["refresh_token"] not in stored
    assert tokens["access_token"] not in stored


async def test_an_unknown_email_and_a_wrong_password_cannot_be_told_apart(
    client: httpx.AsyncClient, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    await register()
    hashed: list[str | None] = []
    verify = passwords.verify

    async def counted(stored: str | None, password: str) -> bool:
        hashed.append(stored)
        return await verify(stored, password)

    monkeypatch.setattr(passwords, "verify", counted)
    answers = [
        await client.post("/users/login", json={"email": email, "password": "wrong"})
        for email in ("ann@waybill.example", "nobody@waybill.example")
    ]

    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].content == answers[1].content
    assert answers[0].headers["www-authenticate"] == "Bearer"
    assert len(hashed) == 2
    assert await logged(UserLoggedIn) == []


async def test_a_login_renews_an_outdated_hash(register: Register, log_in: LogIn) -> None:
    await register()
    stricter = Passwords(PasswordSettings(argon2_memory_kib=16))
    old = await stricter.hash(PASSWORD)
    async with database.transaction() as session:
        await session.execute(text("UPDATE users SET password_hash = :old"), {"old": old})

    await log_in()

    async with database.transaction() as session:
        kept = await session.scalar(select(Account.password_hash))
    assert kept != old
    await log_in()


async def test_a_login_that_meets_a_change_of_the_account_is_to_be_tried_again(
    client: httpx.AsyncClient, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    await register()
    renewed = passwords.renewed

    async def meanwhile(stored: str, password: str) -> str:
        async with database.transaction() as session:
            await session.execute(text("UPDATE users SET password_hash = 'another'"))
        return await renewed(stored, password)

    monkeypatch.setattr(passwords, "renewed", meanwhile)
    credentials = {"email": "ann@waybill.example", "password": PASSWORD}
    reply = await client.post("/users/login", json=credentials)

    assert reply.status_code == 503
    assert reply.headers["retry-after"]


async def test_a_flood_of_logins_is_told_to_come_back(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "_most", 0)

    credentials = {"email": "ann@waybill.example", "password": PASSWORD}
    reply = await client.post("/users/login", json=credentials)

    assert reply.status_code == 503
    assert reply.headers["retry-after"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/users/me"),
        ("PUT", "/users/me"),
        ("DELETE", "/users/me"),
        ("POST", "/users/logout"),
        ("GET", "/users/me/sessions"),
        ("DELETE", "/users/me/sessions"),
        ("DELETE", f"/users/me/sessions/{UUID(int=1)}"),
        ("GET", "/users"),
        ("GET", f"/users/{UUID(int=1)}"),
        ("PUT", f"/users/{UUID(int=1)}"),
        ("DELETE", f"/users/{UUID(int=1)}"),
    ],
)
async def test_a_token_that_is_not_ours_opens_nothing(
    client: httpx.AsyncClient, register: Register, method: str, path: str
) -> None:
    await register()
    before = await everything_stored()
    foreign = jwt.encode({"sub": str(uuid4()), "role": "admin"}, "x" * 32, "HS256")
    unsigned = jwt.encode({"sub": str(uuid4()), "role": "admin"}, "", "none")
    expired = bearer(uuid4(), Role.ADMIN, exp=1)["Authorization"]
    others = bearer(uuid4(), Role.ADMIN, aud="someone else")["Authorization"]

    for given in ("", "Bearer", f"Bearer {foreign}", f"Bearer {unsigned}", expired, others):
        reply = await client.request(method, path, headers={"Authorization": given}, json={})
        assert reply.status_code == 401, (given, reply.text)
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.headers["www-authenticate"] == "Bearer"
    assert await everything_stored() == before


@pytest.mark.parametrize("role", [Role.CUSTOMER, Role.CARRIER, Role.STAFF])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_other_peoples_accounts_are_for_admins(
    client: httpx.AsyncClient, register: Register, role: Role, method: str
) -> None:
    user = (await register()).json()

    reply = await client.request(
        method, f"/users/{user['id']}", headers=bearer(uuid4(), role), json={}
    )

    assert reply.status_code == 403
    assert await rows_of_accounts() == 1


async def test_a_profile_is_replaced_and_announced(
    client: httpx.AsyncClient, register: Register, log_in: LogIn
) -> None:
    user = (await register()).json()
    headers = (await log_in())["headers"]
    profile = {
        "version": 1,
        "name": "Anna",
        "email_notifications": False,
        "phone": "+4712345678",
        "default_address": ADDRESS,
    }

    reply = await client.put("/users/me", json=profile, headers=headers)

    assert reply.status_code == 200, reply.text
    changed = reply.json()
    assert changed == user | profile | {"version": 2, "updated_at": changed["updated_at"]}
    assert (await client.get("/users/me", headers=headers)).json() == changed
    [event] = await logged(UserUpdated)
    assert (event.name, event.email_notifications, event.user_version) == ("Anna", False, 2)


async def test_a_repeated_change_of_the_profile_is_made_once(
    client: httpx.AsyncClient, register: Register, log_in: LogIn
) -> None:
    await register()
    headers = (await log_in())["headers"]
    profile = {
        "version": 1,
        "name": "Anna",
        "email_notifications": False,
        "default_address": ADDRESS,
    }

    first = await client.put("/users/me", json=profile, headers=headers)
    second = await client.put("/users/me", json=profile, headers=headers)

    assert (second.status_code, second.json()) == (200, first.json())
    assert len(await logged(UserUpdated)) == 1


async def test_a_profile_that_was_read_too_long_ago_is_not_overwritten(
    client: httpx.AsyncClient, register: Register, log_in: LogIn
) -> None:
    await register()
    headers = (await log_in())["headers"]
    profile = {"version": 1, "name": "Anna", "email_notifications": True}
    await client.put("/users/me", json=profile, headers=headers)

    reply = await client.put("/users/me", json=profile | {"name": "Annie"}, headers=headers)

    assert reply.status_code == 409
    assert reply.json()["type"] == "urn:waybill:problem:stale-version"
    assert reply.json()["version"] == 2


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"version": 0}, "version"),
        ({"version": 2**31}, "version"),
        ({"phone": "call me"}, "phone"),
        ({"default_address": ADDRESS | {"country": "Norway"}}, "default_address.country"),
        ({"default_address": ADDRESS | {"city": "\u0000"}}, "default_address.city"),
        ({"default_address": ADDRESS | {"postal_code": "0" * 21}}, "default_address.postal_code"),
        ({"email_notifications": "perhaps"}, "email_notifications"),
    ],
)
async def test_a_bad_profile_names_the_field(
    client: httpx.AsyncClient, fields: dict[str, Any], field: str
) -> None:
    profile = {"version": 1, "name": "Anna", "email_notifications": True}

    reply = await client.put("/users/me", json=profile | fields, headers=bearer(uuid4()))

    assert reply.status_code == 422
    assert [violation["field"] for violation in reply.json()["errors"]] == [field]


async def test_a_deleted_account_leaves_a_row_without_a_person(
    client: httpx.AsyncClient, register: Register, log_in: LogIn
) -> None:
    user = (await register()).json()
    tokens = await log_in()

    reply = await client.delete("/users/me", headers=tokens["headers"])

    assert reply.status_code == 204
    async with database.transaction() as session:
        account = await session.get_one(Account, UUID(user["id"]))
    assert (account.email, account.name, account.password_hash) == (None, "", None)
    [event] = await logged(UserDeleted)
    assert str(event.user_id) == user["id"]
    credentials = {"email": "ann@waybill.example", "password": PASSWORD}
    assert (await client.post("/users/login", json=credentials)).status_code == 401
    spent = {"refresh_token": tokens["refresh_token"]}
    assert (await client.post("/users/refresh", json=spent)).status_code == 401
    assert (await client.get("/users/me", headers=tokens["headers"])).status_code == 404


async def test_deleting_an_account_again_changes_nothing(
    client: httpx.AsyncClient, register: Register, log_in: LogIn
) -> None:
    await register()
    headers = (await log_in())["headers"]
    await client.delete("/users/me", headers=headers)

    assert (await client.delete("/users/me", headers=headers)).status_code == 204
    assert len(await logged(UserDeleted)) == 1


async def test_the_email_of_a_deleted_account_is_free_again(
    client: httpx.AsyncClient, register: Register, log_in: LogIn
) -> None:
    first = (await register()).json()
    await client.delete("/users/me", headers=(await log_in())["headers"])

    reply = await register()

    assert reply.status_code == 201
    assert reply.json()["id"] != first["id"]


async def test_admins_find_accounts_by_email_and_name(
    client: httpx.AsyncClient, register: Register
) -> None:
    for name in ("Ann", "Bob", "100%_sure"):
        await register(email=f"{len(name)}.{name[:3].lower()}@waybill.example", name=name)

    async def found(**query: Any) -> list[str]:
        reply = await client.get("/users", params=query, headers=ADMIN)
        assert reply.status_code == 200, reply.text
        return [item["name"] for item in reply.json()["items"]]

    assert await found() == ["100%_sure", "Bob", "Ann"]
    assert await found(q="BOB") == ["Bob"]
    assert await found(q="3.ann@") == ["Ann"]
    assert await found(q="%_") == ["100%_sure"]
    assert await found(page=2, page_size=1) == ["Bob"]
    assert await found(q="nobody") == []
    page = (await client.get("/users", params={"page_size": 2}, headers=ADMIN)).json()
    assert (page["page"], page["page_size"], page["total"]) == (1, 2, 3)


async def test_deleted_accounts_are_not_listed(
    client: httpx.AsyncClient, register: Register
) -> None:
    user = (await register()).json()
    await client.delete(f"/users/{user['id']}", headers=ADMIN)

    assert (await client.get("/users", headers=ADMIN)).json()["total"] == 0
    assert (await client.get(f"/users/{user['id']}", headers=ADMIN)).status_code == 404


@pytest.mark.parametrize(
    "query", [{"page": 0}, {"page_size": 101}, {"page": 10**20}, {"q": "\u0000"}, {"q": ""}]
)
async def test_a_bad_search_names_the_parameter(
    client: httpx.AsyncClient, query: dict[str, Any]
) -> None:
    reply = await client.get("/users", params=query, headers=ADMIN)

    assert reply.status_code == 422
    [violation] = reply.json()["errors"]
    assert (violation["field"], violation["in"]) == (next(iter(query)), "query")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_an_account_that_never_was_is_not_found(
    client: httpx.AsyncClient, method: str
) -> None:
    body = {
        "version": 1,
        "name": "A",
        "email_notifications": True,
        "role": "staff",
        "disabled": False,
    }
    reply = await client.request(method, f"/users/{uuid4()}", headers=ADMIN, json=body)

    assert reply.status_code == 404


async def test_an_admin_gives_a_role(
    client: httpx.AsyncClient, register: Register, log_in: LogIn
) -> None:
    user = (await register()).json()
    tokens = await log_in()
    change = {"version": 1, "name": "Ann", "email_notifications": True, "disabled": False}

    reply = await client.put(f"/users/{user['id']}", json=change | {"role": "staff"}, headers=ADMIN)

    assert reply.json()["role"] == "staff"
    assert (await client.get(f"/users/{user['id']}", headers=ADMIN)).json() == reply.json()
    spent = {"refresh_token": tokens["refresh_token"]}
    renewed = (await client.post("/users/refresh", json=spent)).json()
    assert (await token_verifier.verify(renewed["access_token"])).role == Role.STAFF


async def test_a_disabled_account_is_logged_out_and_stays_out(
    client: httpx.AsyncClient, register: Register, log_in: LogIn
) -> None:
    user = (await register()).json()
    tokens = await log_in()
    change = {"version": 1, "name": "Ann", "email_notifications": True, "role": "customer"}

    await client.put(f"/users/{user['id']}", json=change | {"disabled": True}, headers=ADMIN)

    spent = {"refresh_token": tokens["refresh_token"]}
    assert (await client.post("/users/refresh", json=spent)).status_code == 401
    right = {"email": "ann@waybill.example", "password": PASSWORD}
    assert (await client.post("/users/login", json=right)).status_code == 403
    wrong = right | {"password": "wrong"}
    assert (await client.post("/users/login", json=wrong)).status_code == 401


async def test_the_key_set_is_public(
    client: httpx.AsyncClient, log_in: LogIn, register: Register
) -> None:
    await register()
    token = (await log_in())["access_token"]

    reply = await client.get("/.well-known/jwks.json")

    assert reply.status_code == 200
    assert reply.headers["cache-control"] == "public, max-age=300"
    [key] = jwt.PyJWKSet.from_dict(reply.json()).keys
    assert jwt.decode(token, key, ["RS256"], audience="waybill")["sid"]
    assert "d" not in json.loads(reply.content)["keys"][0]
