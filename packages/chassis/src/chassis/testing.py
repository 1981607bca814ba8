"""Pytest fixtures for services: a migrated PostgreSQL rolled back per test, a stand-in sidecar.

A test package sets `SERVICE` in its conftest by overriding the `service` fixture.
"""

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any
from uuid import UUID

import httpx
import jwt
import pytest
import uvicorn
from contracts import Event
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import FastAPI
from jwt.algorithms import RSAAlgorithm
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from chassis.database import database
from chassis.identity import ALGORITHM, Role, token_verifier
from chassis.migrate import upgrade
from chassis.settings import settings
from chassis.sidecar import Reply, Sidecar, SidecarUnavailable, sidecar
from chassis.tables import DeadLetter, LoggedEvent, new_id

_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
_KEY_ID = "test"


def key_set() -> dict[str, Any]:
    """The JWKS that verifies the tokens of `access_token`."""
    public = RSAAlgorithm.to_jwk(_KEY.public_key(), as_dict=True)
    return {"keys": [{**public, "kid": _KEY_ID, "alg": ALGORITHM, "use": "sig"}]}


def access_token(user_id: UUID, role: Role = Role.CUSTOMER, **claims: Any) -> str:
    now = int(time.time())
    defaults = {
        "sub": str(user_id),
        "role": role,
        "iss": settings().jwt_issuer,
        "aud": settings().jwt_audience,
        "iat": now,
        "exp": now + 300,
    }
    return jwt.encode({**defaults, **claims}, _KEY, ALGORITHM, headers={"kid": _KEY_ID})


def bearer(user_id: UUID, role: Role = Role.CUSTOMER, **claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {access_token(user_id, role, **claims)}"}


class StandInSidecar(Sidecar):
    """Answers as the routes of `answers` say, keeps state in a dict and remembers every call."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[tuple[str, str], Callable[..., Reply]] = {}
        self.calls: list[tuple[str, str]] = []
        self.bodies: list[bytes | None] = []
        self.headers: list[Mapping[str, str]] = []
        self.state: dict[str, bytes] = {}
        self.published: list[Mapping[str, Any]] = []
        self.bindings: list[tuple[str, str, Mapping[str, str]]] = []
        self.secrets: dict[tuple[str, str], str] = {}
        self.configurations: dict[str, dict[str, str]] = {}
        self.schedules: dict[str, str] = {}
        self.away = False

    def answer(self, app_id: str, path: str, body: Any, status: int = 200) -> None:
        reply = Reply(status, {"content-type": "application/json"}, json.dumps(body).encode())
        self.answers[app_id, path] = lambda: reply

    def _check(self) -> None:
        if self.away:
            raise SidecarUnavailable("The sidecar is away.")

    async def is_ready(self) -> bool:
        return not self.away

    async def invoke(self, app_id: str, path: str, **request: Any) -> Reply:
        self._check()
        self.calls.append((app_id, path))
        self.bodies.append(request.get("body"))
        self.headers.append(request.get("headers") or {})
        return self.answers[app_id, path]()

    async def publish(self, events: Sequence[Mapping[str, Any]]) -> set[str]:
        self._check()
        self.published += events
        return set()

    async def get_states(self, keys: Sequence[str]) -> dict[str, bytes]:
        self._check()
        return {key: self.state[key] for key in keys if key in self.state}

    async def save_states(self, values: Mapping[str, bytes], *, ttl_seconds: int) -> None:
        self._check()
        self.state |= values

    async def delete_states(self, keys: Sequence[str]) -> None:
        self._check()
        for key in keys:
            self.state.pop(key, None)

    async def secret(self, store: str, key: str) -> str:
        self._check()
        return self.secrets[store, key]

    async def configuration(self, store: str) -> dict[str, str]:
        self._check()
        return self.configurations.get(store, {})

    async def call_binding(
        self, name: str, operation: str, data: str, metadata: dict[str, str]
    ) -> None:
        self._check()
        self.bindings.append((name, data, metadata))

    async def schedule(self, name: str, schedule: str) -> None:
        self._check()
        self.schedules[name] = schedule


_STOOD_IN_FOR = (
    "is_ready",
    "invoke",
    "publish",
    "get_states",
    "save_states",
    "delete_states",
    "secret",
    "configuration",
    "call_binding",
    "schedule",
)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandInSidecar:
    """The process's sidecar client behaves as a `StandInSidecar` until the test ends."""
    double = StandInSidecar()
    for name in _STOOD_IN_FOR:
        monkeypatch.setattr(sidecar, name, getattr(double, name))
    return double


@pytest.fixture
def service() -> str:
    raise NotImplementedError("override the `service` fixture with the name under test")


@asynccontextmanager
async def _migrated(server_url: str, service: str) -> AsyncGenerator[AsyncEngine]:
    name = f"test_{service}"
    admin = create_async_engine(server_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    async with admin.connect() as connection:
        await connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        await connection.execute(text(f"CREATE DATABASE {name}"))
    await admin.dispose()
    engine = create_async_engine(admin.url.set(database=name))
    async with engine.begin() as connection:
        await connection.run_sync(upgrade, service)
    yield engine
    await engine.dispose()


@pytest.fixture(scope="session")
async def migrated_databases(postgres_url: str) -> AsyncIterator[Callable[[str], Any]]:
    """One migrated database per service and test run, made when first asked for."""
    engines: dict[str, tuple[Any, AsyncEngine]] = {}

    async def engine_of(service: str) -> AsyncEngine:
        if service not in engines:
            context = _migrated(postgres_url, service)
            engines[service] = (context, await context.__aenter__())
        return engines[service][1]

    yield engine_of
    for context, _ in engines.values():
        await context.__aexit__(None, None, None)


@pytest.fixture
async def engine(service: str, migrated_databases: Callable[[str], Any]) -> AsyncEngine:
    return await migrated_databases(service)


@pytest.fixture
async def db(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """What the test and the service write in this connection is undone afterwards."""
    async with engine.connect() as connection:
        transaction = await connection.begin()
        database.use(connection)
        yield connection
        database.use(None)
        await transaction.rollback()


@pytest.fixture
async def concurrent_db(engine: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """For tests of real concurrency: transactions really commit; every table is emptied after."""
    database.use(engine)
    yield engine
    database.use(None)
    tables = """
        SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables
        WHERE schemaname = 'public' AND tablename <> 'alembic_version'
    """
    async with engine.begin() as connection:
        names = await connection.scalar(text(tables))
        await connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))


@pytest.fixture
def trusted_keys() -> None:
    token_verifier.trust(key_set())


@pytest.fixture
async def client(app: FastAPI, trusted_keys: None) -> AsyncIterator[httpx.AsyncClient]:
    """Calls the app in process, without its lifespan: no relay, no sidecar."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


class Delivered:
    """Delivers events as the sidecar does, every batch twice."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def __call__(self, *events: Event) -> None:
        """Events of one type; fails unless both deliveries are acknowledged."""
        topic = events[0].topic
        entries = [as_entry(topic, event.model_dump(mode="json")) for event in events]
        for _ in range(2):
            outcomes = await self.raw(topic, entries)
            assert set(outcomes) == {"SUCCESS"}, outcomes  # noqa: S101  # a test's own check

    async def raw(self, topic: str, entries: list[dict[str, Any]]) -> list[str]:
        """The statuses that the service gives the entries of one bulk delivery."""
        body = {"id": str(new_id()), "entries": entries, "pubsubname": "pubsub", "topic": topic}
        headers = {"dapr-api-token": settings().app_api_token, "content-type": "application/json"}
        reply = await self._client.post("/events", content=json.dumps(body), headers=headers)
        reply.raise_for_status()
        by_id = {s["entryId"]: s["status"] for s in reply.json()["statuses"]}
        return [by_id[entry["entryId"]] for entry in entries]


def as_entry(topic: str, data: Any, **attributes: Any) -> dict[str, Any]:
    """One entry of a bulk delivery, with a fresh event id."""
    event = {"specversion": "1.0", "id": str(new_id()), "type": topic, "data": data, **attributes}
    return {
        "entryId": str(new_id()),
        "event": event,
        "contentType": "application/cloudevents+json",
    }


@pytest.fixture
def deliver(client: httpx.AsyncClient) -> Delivered:
    return Delivered(client)


async def logged(event: type[Event]) -> list[Any]:
    """The events of this type in the service's log, in order."""
    query = select(LoggedEvent).where(LoggedEvent.topic == event.topic)
    async with database.transaction() as session:
        rows = await session.scalars(query.order_by(LoggedEvent.sequence))
        return [event.model_validate(row.payload) for row in rows]


async def dead_letters() -> list[DeadLetter]:
    async with database.transaction() as session:
        return list(await session.scalars(select(DeadLetter)))


@asynccontextmanager
async def serving(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[str]:
    """The app on a port of its own, with its lifespan and workers, without a sidecar; its URL.

    For what the in-process `client` cannot show: streams, and pages in a browser.
    """
    monkeypatch.setattr(sidecar, "connected", nullcontext)
    config = uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=5)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    yield "http://{}:{}".format(*server.servers[0].sockets[0].getsockname())
    await server.shutdown()
