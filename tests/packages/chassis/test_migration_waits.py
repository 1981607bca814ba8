"""A service starts on a schema that is there, and a migration on a database that is."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from chassis import migrate
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool


@pytest.fixture
async def empty_database(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    """One of its own for each test, with nothing in it."""
    name = f"migrate_{uuid4().hex}"
    server = create_async_engine(postgres_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    engine = create_async_engine(server.url.set(database=name), poolclass=NullPool)
    async with server.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
        yield engine
        await engine.dispose()
        await connection.execute(text(f"DROP DATABASE {name}"))
    await server.dispose()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "_POLL_SECONDS", 0.01)


async def is_behind(engine: AsyncEngine) -> bool:
    async with engine.connect() as connection:
        return await connection.run_sync(migrate.is_behind, "orders")


async def set_revision(engine: AsyncEngine, revision: str) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE alembic_version SET version_num = :it"), {"it": revision}
        )


async def test_who_waits_starts_once_the_schema_is_there(empty_database: AsyncEngine) -> None:
    waiting = asyncio.create_task(migrate.wait(empty_database, "orders"))
    assert await is_behind(empty_database)
    assert not waiting.done()
    await migrate.migrate(empty_database, "orders")
    async with asyncio.timeout(30):
        await waiting
    assert not await is_behind(empty_database)


async def test_a_migration_waits_for_its_database(empty_database: AsyncEngine) -> None:
    missing = create_async_engine(
        empty_database.url.set(database=f"{empty_database.url.database}_later"), poolclass=NullPool
    )
    migrating = asyncio.create_task(migrate.migrate(missing, "orders"))
    server = empty_database.execution_options(isolation_level="AUTOCOMMIT")
    async with server.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {missing.url.database}"))
        async with asyncio.timeout(30):
            await migrating
        assert not await is_behind(missing)
        await missing.dispose()
        await connection.execute(text(f"DROP DATABASE {missing.url.database}"))


async def test_a_database_that_never_comes_is_given_up(
    empty_database: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "_WAIT_SECONDS", 0.1)
    with pytest.raises(TimeoutError):
        await migrate.wait(empty_database, "orders")


@pytest.mark.parametrize("revision", ["0002", "9999"])
async def test_a_schema_of_this_or_a_later_release_is_no_obstacle(
    revision: str, empty_database: AsyncEngine
) -> None:
    await migrate.migrate(empty_database, "orders")
    await set_revision(empty_database, revision)
    assert not await is_behind(empty_database)


async def test_a_schema_of_an_earlier_release_is_waited_for(empty_database: AsyncEngine) -> None:
    await migrate.migrate(empty_database, "orders")
    await set_revision(empty_database, "0001")
    assert await is_behind(empty_database)
