"""The door: what is let in, how it is passed on, and how the answer comes back."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote
from uuid import UUID, uuid4

import httpx
import jwt
import pytest
from chassis.identity import Role
from chassis.problems import Unavailable
from chassis.sidecar import Reply, SidecarUnavailable
from chassis.testing import access_token, bearer, key_set
from fastapi import FastAPI

PROTECTED = [
    ("GET", "users/me"),
    ("POST", "users/logout"),
    ("GET", "users"),
    ("POST", "products"),
    ("PUT", "products/LAMP"),
    ("DELETE", "products/LAMP"),
    ("POST", "inventory/LAMP/restock"),
    ("POST", "orders"),
    ("GET", "orders"),
    ("DELETE", "orders/1"),
    ("GET", "payments"),
    ("POST", "payments/1/refunds"),
    ("GET", "shipments"),
    ("POST", "shipments/1/events"),
    ("GET", "notifications"),
]
OPEN = ["products", "products/LAMP", "inventory", "inventory/LAMP", "tracking/WB1"]
TOKENLESS = ["users/register", "users/login", "users/refresh", "payments/webhooks/provider"]


def foreign_tokens() -> list[str]:
    admin = {"sub": str(uuid4()), "role": "admin", "iss": "waybill", "aud": "waybill"}
    times = {"iat": 1, "exp": 2**31}
    return [
        "",
        "x",
        "a.b.c",
        jwt.encode(admin | times, "", "none"),
        jwt.encode(admin | times, "x" * 32, "HS256", headers={"kid": "test"}),
        access_token(uuid4(), exp=1),
        access_token(uuid4(), aud="someone else"),
        access_token(uuid4(), iss="someone else"),
        access_token(uuid4(), sub="nobody"),
        access_token(uuid4())[:-8] + "AAAAAAAA",
    ]


async def send_raw(app: FastAPI, raw_path: bytes, method: str = "GET") -> tuple[int, bytes]:
    """Status and body of a request whose path goes in as it is; clients tidy theirs up."""
    messages: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        messages.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(raw_path.decode("latin-1")),
        "raw_path": raw_path,
        "query_string": b"",
        "root_path": "",
        "headers": [(b"authorization", bearer(uuid4(), Role.ADMIN)["Authorization"].encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    await app(scope, receive, send)
    return messages[0]["status"], b"".join(m.get("body", b"") for m in messages)


async def test_a_request_reaches_its_service(client: httpx.AsyncClient, mesh: Any) -> None:
    ann = bearer(uuid4())
    reply = await client.get("/api/v1/orders/7", params={"page": 2, "q": "a&b=c/d é"}, headers=ann)

    assert reply.status_code == 200
    [call] = mesh.calls
    assert (call.app_id, call.method, call.body) == ("orders", "GET", None)
    assert call.path == "orders/7?page=2&q=a%26b%3Dc%2Fd+%C3%A9"
    assert call.headers["authorization"] == ann["Authorization"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_a_body_is_passed_on_to_the_byte(
    client: httpx.AsyncClient, mesh: Any, method: str
) -> None:
    body = b'{"a" : 1,\r\n "b":"\xc3\xa9"}\x00 '
    headers = bearer(uuid4()) | {"Content-Type": "application/json; charset=utf-8"}

    await client.request(method, "/api/v1/orders", content=body, headers=headers)

    [call] = mesh.calls
    assert (call.method, call.body) == (method, body)
    assert call.content_type == "application/json; charset=utf-8"


async def test_a_webhook_keeps_its_signature_and_its_raw_body(
    client: httpx.AsyncClient, mesh: Any
) -> None:
    body = b'{"id":  "evt_1"}\n'
    headers = {"Stripe-Signature": "t=1,v1=abc", "Content-Type": "application/json"}

    await client.post("/api/v1/payments/webhooks/provider", content=body, headers=headers)

    [call] = mesh.calls
    assert (call.app_id, call.path) == ("payments", "payments/webhooks/provider")
    assert call.body == body
    assert call.headers["stripe-signature"] == "t=1,v1=abc"


@pytest.mark.parametrize(("method", "path"), PROTECTED)
async def test_without_a_token_nobody_is_called(
    client: httpx.AsyncClient, mesh: Any, method: str, path: str
) -> None:
    reply = await client.request(method, f"/api/v1/{path}")

    assert reply.status_code == 401
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["www-authenticate"] == "Bearer"
    assert mesh.calls == []


@pytest.mark.parametrize("path", ["orders", "products", "tracking/WB1"])
async def test_with_a_bad_token_nobody_is_called(
    client: httpx.AsyncClient, mesh: Any, path: str
) -> None:
    mesh.answer(200, key_set())
    for token in foreign_tokens():
        headers = {"Authorization": f"Bearer {token}"}
        reply = await client.get(f"/api/v1/{path}", headers=headers)
        assert reply.status_code == 401, (token, reply.text)
        assert reply.headers["content-type"] == "application/problem+json"
    assert {call.path for call in mesh.calls} <= {".well-known/jwks.json"}


async def test_another_scheme_than_bearer_is_no_token(client: httpx.AsyncClient, mesh: Any) -> None:
    reply = await client.get("/api/v1/orders", headers={"Authorization": "Basic YTpi"})

    assert reply.status_code == 401
    assert mesh.calls == []


@pytest.mark.parametrize("path", OPEN)
async def test_the_public_reads_without_a_token(
    client: httpx.AsyncClient, mesh: Any, path: str
) -> None:
    assert (await client.get(f"/api/v1/{path}")).status_code == 200
    assert "authorization" not in mesh.calls[0].headers


async def test_a_token_that_is_not_needed_is_passed_on_where_it_may_matter(
    client: httpx.AsyncClient, mesh: Any
) -> None:
    staff = bearer(uuid4(), Role.STAFF)

    await client.get("/api/v1/inventory", headers=staff)

    assert mesh.calls[0].headers["authorization"] == staff["Authorization"]


@pytest.mark.parametrize("path", TOKENLESS)
async def test_an_expired_token_does_not_keep_anybody_from_logging_in(
    client: httpx.AsyncClient, mesh: Any, path: str
) -> None:
    expired = bearer(uuid4(), exp=1)

    reply = await client.post(f"/api/v1/{path}", json={}, headers=expired)

    assert reply.status_code == 200
    assert "authorization" not in mesh.calls[0].headers


async def test_a_post_without_an_idempotency_key_gets_one_of_its_own(
    client: httpx.AsyncClient, mesh: Any
) -> None:
    for _ in range(2):
        await client.post("/api/v1/orders", json={}, headers=bearer(uuid4()))

    keys = [call.headers["idempotency-key"] for call in mesh.calls]
    assert len(set(keys)) == 2
    assert all(UUID(key) for key in keys)


async def test_the_customers_idempotency_key_is_kept(client: httpx.AsyncClient, mesh: Any) -> None:
    headers = bearer(uuid4()) | {"Idempotency-Key": "mine"}

    await client.post("/api/v1/orders", json={}, headers=headers)

    assert mesh.calls[0].headers["idempotency-key"] == "mine"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_only_posts_need_an_idempotency_key(
    client: httpx.AsyncClient, mesh: Any, method: str
) -> None:
    await client.request(method, "/api/v1/orders/1", headers=bearer(uuid4()))

    assert "idempotency-key" not in mesh.calls[0].headers


async def test_only_harmless_headers_go_in(client: httpx.AsyncClient, mesh: Any) -> None:
    sent = bearer(uuid4()) | {
        "Accept": "application/json",
        "User-Agent": "test/1",
        "X-Correlation-Id": "my-id",
        "If-None-Match": '"1"',
        "Connection": "close, X-Other",
        "X-Other": "1",
        "TE": "trailers",
        "Upgrade": "websocket",
        "Cookie": "a=b",
        "Host": "elsewhere.example",
        "Dapr-Api-Token": "guess",
        "Dapr-App-Id": "payments",
        "Dapr-Caller-App-Id": "orders",
        "X-Forwarded-For": "127.0.0.1",
        "Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }

    reply = await client.get("/api/v1/orders", headers=sent)

    assert set(mesh.calls[0].headers) == {
        "accept",
        "authorization",
        "if-none-match",
        "user-agent",
        "x-correlation-id",
    }
    assert mesh.calls[0].headers["x-correlation-id"] == "my-id"
    assert reply.headers["x-correlation-id"] == "my-id"


async def test_a_request_gets_a_correlation_id_if_it_has_none(
    client: httpx.AsyncClient, mesh: Any
) -> None:
    reply = await client.get("/api/v1/products")

    assert mesh.calls[0].headers["x-correlation-id"] == reply.headers["x-correlation-id"]


async def test_the_first_of_two_tokens_is_the_one_that_counts(
    client: httpx.AsyncClient, mesh: Any
) -> None:
    ann, eve = access_token(uuid4()), "eve"
    headers = [("Authorization", f"Bearer {ann}"), ("Authorization", f"Bearer {eve}")]

    await client.get("/api/v1/orders", headers=headers)

    assert mesh.calls[0].headers["authorization"] == f"Bearer {ann}"


@pytest.mark.parametrize(
    ("value", "status"),
    [(b"x" * 4097, 431), ("é".encode(), 400), (b"a\x00b", 400), (b"a\tb", 400)],
)
async def test_headers_that_the_mesh_cannot_carry_are_refused(
    client: httpx.AsyncClient, mesh: Any, value: bytes, status: int
) -> None:
    headers = [(b"Idempotency-Key", value), (b"Authorization", _ann())]

    reply = await client.post("/api/v1/orders", json={}, headers=headers)

    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/problem+json"
    assert mesh.calls == []


def _ann() -> bytes:
    return bearer(uuid4())["Authorization"].encode()


async def test_a_huge_query_is_refused(client: httpx.AsyncClient, mesh: Any) -> None:
    reply = await client.get("/api/v1/products", params={"q": "a" * 5_000})

    assert reply.status_code == 414
    assert mesh.calls == []


async def test_a_huge_body_is_refused(client: httpx.AsyncClient, mesh: Any) -> None:
    reply = await client.post("/api/v1/users/register", content=b"a" * 10_000_000)

    assert reply.status_code == 413
    assert reply.headers["content-type"] == "application/problem+json"
    assert mesh.calls == []


async def test_a_huge_body_of_unknown_length_is_refused(
    client: httpx.AsyncClient, mesh: Any
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(160):
            yield b"a" * 65_536

    reply = await client.post("/api/v1/users/register", content=chunks())

    assert reply.status_code == 413
    assert mesh.calls == []


@pytest.mark.parametrize(
    "raw_path",
    [
        b"/api/v1/products/../internal/prices",
        b"/api/v1/products/%2e%2e/internal/prices",
        b"/api/v1/products/..%2finternal%2fprices",
        b"/api/v1/products%2F..%2Finternal%2Fprices",
        b"/api/v1/products/%252e%252e%252finternal",
        b"/api/v1/products/..\\internal",
        b"/api/v1//internal/prices",
        b"/api/v1/internal/prices",
        b"/api/v1/events/order.created",
        b"/api/v1/users/../.well-known/jwks.json",
        b"/api/v1/../../v1.0/shutdown",
        b"/api%2fv1/users/me",
        b"/internal/prices",
        b"/events/order.created",
        b"/v1.0/invoke/users/method/users",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.usefixtures("trusted_keys")
async def test_what_is_not_in_the_table_cannot_be_reached(
    app: FastAPI, mesh: Any, raw_path: bytes, method: str
) -> None:
    status, body = await send_raw(app, raw_path, method)

    assert status == 404
    assert b'"status":404' in body
    assert mesh.calls == []


@pytest.mark.parametrize("method", ["PATCH", "TRACE", "OPTIONS", "CONNECT"])
async def test_other_methods_are_not_allowed(
    client: httpx.AsyncClient, mesh: Any, method: str
) -> None:
    reply = await client.request(method, "/api/v1/orders", headers=bearer(uuid4()))

    assert reply.status_code == 405
    assert reply.headers["content-type"] == "application/problem+json"
    assert mesh.calls == []


async def test_the_head_of_a_resource_is_asked_for_with_get(
    client: httpx.AsyncClient, mesh: Any
) -> None:
    reply = await client.head("/api/v1/products")

    assert reply.status_code == 200
    assert mesh.calls[0].method == "GET"


async def test_an_answer_comes_back_with_its_safe_headers(
    client: httpx.AsyncClient, mesh: Any
) -> None:
    mesh.answer(
        201,
        {"id": 1},
        etag='"1"',
        cache_control="private",
        location="/orders/1",
        idempotent_replayed="true",
        set_cookie="a=b",
        dapr_secret="x",
        server="uvicorn",
        connection="close",
    )

    reply = await client.post("/api/v1/orders", json={}, headers=bearer(uuid4()))

    assert (reply.status_code, reply.json()) == (201, {"id": 1})
    assert reply.headers["etag"] == '"1"'
    assert reply.headers["cache-control"] == "private"
    assert reply.headers["location"] == "/api/v1/orders/1"
    assert reply.headers["idempotent-replayed"] == "true"
    assert not {"set-cookie", "dapr-secret", "server", "connection"} & set(reply.headers)


async def test_an_empty_answer_stays_empty(client: httpx.AsyncClient, mesh: Any) -> None:
    mesh.reply = Reply(204, {}, b"")

    reply = await client.delete("/api/v1/users/me", headers=bearer(uuid4()))

    assert (reply.status_code, reply.content) == (204, b"")
    assert "content-type" not in reply.headers


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 500, 503])
async def test_a_problem_of_a_service_comes_back_as_it_is(
    client: httpx.AsyncClient, mesh: Any, status: int
) -> None:
    mesh.answer(status, {"status": status}, www_authenticate="Bearer", retry_after="7")

    reply = await client.get("/api/v1/products")

    assert (reply.status_code, reply.json()) == (status, {"status": status})
    assert reply.headers["www-authenticate"] == "Bearer"
    assert reply.headers["retry-after"] == "7"


@pytest.mark.parametrize(
    ("status", "told"), [(403, 502), (404, 502), (413, 502), (500, 502), (503, 503), (504, 504)]
)
async def test_what_the_mesh_says_is_not_passed_on(
    client: httpx.AsyncClient, mesh: Any, status: int, told: int
) -> None:
    secret = b'{"errorCode":"ERR_DIRECT_INVOKE","message":"spiffe://public/ns/default/gateway"}'
    mesh.reply = Reply(status, {"content-type": "application/json"}, secret)

    reply = await client.get("/api/v1/products")

    assert reply.status_code == told
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["retry-after"]
    assert "spiffe" not in reply.text


async def test_a_service_that_is_away_is_a_problem(client: httpx.AsyncClient, mesh: Any) -> None:
    mesh.trouble = SidecarUnavailable("catalog is not reachable.")

    reply = await client.get("/api/v1/products")

    assert reply.status_code == 503
    assert reply.json()["type"] == "urn:waybill:problem:service-unavailable"
    assert reply.headers["retry-after"]


async def test_a_service_that_does_not_answer_in_time_is_a_problem(
    client: httpx.AsyncClient, mesh: Any
) -> None:
    mesh.trouble = SidecarUnavailable("catalog did not answer.")
    mesh.trouble.__cause__ = TimeoutError()

    reply = await client.get("/api/v1/products")

    assert reply.status_code == 504
    assert reply.headers["retry-after"] == Unavailable.headers["Retry-After"]


async def test_a_body_that_never_arrives_does_not_keep_its_place(
    client: httpx.AsyncClient, mesh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.api._SLOWEST_BODY_SECONDS", 0.05)

    async def body() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with asyncio.timeout(5):
        reply = await client.post("/api/v1/orders", content=body(), headers=bearer(uuid4()))
    assert (reply.status_code, mesh.calls) == (408, [])
    assert reply.headers["content-type"] == "application/problem+json"
