"""What the roles of a real PostgreSQL may and may not do."""

import socket
from collections.abc import AsyncIterator

import asyncpg
import pytest
from waybill import credentials, ports
from waybill.credentials import PlatformSecrets
from waybill.parts import postgres, unprivileged
from waybill.project import Project


@pytest.fixture
async def secrets(
    checkout: Project, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[PlatformSecrets]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(ports, "POSTGRES", server.getsockname()[1])
    made = credentials.ensure(checkout)
    cluster = postgres.locate(checkout)
    await postgres.initialise(checkout, cluster, made)
    server = postgres.process(checkout, cluster, made)
    server.start()
    try:
        await server.wait_ready(30)
        await postgres.provision(made, checkout.databases)
        yield made
    finally:
        await server.stop()
        unprivileged.remove(checkout.state / "postgres")


async def _run(user: str, password: str, database: str, sql: str) -> None:
    session = await asyncpg.connect(  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # asyncpg is not annotated
        host=ports.HOST, port=ports.POSTGRES, user=user, password=password, database=database
    )
    try:
        await session.execute(sql)  # pyright: ignore[reportUnknownMemberType]  # likewise
    finally:
        await session.close()  # pyright: ignore[reportUnknownMemberType]  # likewise


async def test_a_service_may_write_rows_and_nothing_else(
    secrets: PlatformSecrets, checkout: Project
) -> None:
    orders = secrets.databases["orders"]
    create = "CREATE TABLE goods (id int GENERATED ALWAYS AS IDENTITY, name text)"

    await _run("orders_owner", orders.owner, "orders", create)
    await _run("orders", orders.service, "orders", "INSERT INTO goods (name) VALUES ('tea')")

    for sql in ("CREATE TABLE mine (id int)", "TRUNCATE goods", "DROP TABLE goods"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await _run("orders", orders.service, "orders", sql)
    for database in ("inventory", "postgres"):
        with pytest.raises(
            asyncpg.InsufficientPrivilegeError, match="permission denied for database"
        ):
            await _run("orders", orders.service, database, "SELECT 1")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await _run("orders", orders.owner, "orders", "SELECT 1")
    await postgres.provision(secrets, checkout.databases)
