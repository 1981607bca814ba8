"""The models of every service agree with what its migrations build."""

import importlib
from collections.abc import Awaitable, Callable

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from chassis.tables import Base
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

SERVICES = (
    "orders",
    "tracking",
    "inventory",
    "notifications",
    "users",
    "catalog",
    "payments",
    "dashboard",
)
CHASSIS_TABLES = {"event_log", "inbox", "dead_letters", "idempotency_keys", "watermarks"}


@pytest.mark.parametrize("service", SERVICES)
async def test_migrations_build_the_models(
    service: str, migrated_databases: Callable[[str], Awaitable[AsyncEngine]]
) -> None:
    importlib.import_module(f"{service}.app")
    engine = await migrated_databases(service)
    async with engine.connect() as connection:
        assert await connection.run_sync(_differences, service) == []


def _differences(connection: Connection, service: str) -> list[object]:
    own = CHASSIS_TABLES | _tables_of(service)

    def is_own(_: object, name: str | None, kind: str, *__: object) -> bool:
        return kind != "table" or name in own

    context = MigrationContext.configure(
        connection, opts={"include_object": is_own, "compare_type": True}
    )
    return list(compare_metadata(context, Base.metadata))


def _tables_of(service: str) -> set[str]:
    models = (mapper.class_ for mapper in Base.registry.mappers)
    return {m.__tablename__ for m in models if m.__module__.partition(".")[0] == service}
