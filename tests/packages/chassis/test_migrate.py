"""Migrations of a service that is made for these tests, on a real PostgreSQL."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from chassis import migrate
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

FIRST = """
from alembic import op
revision, down_revision = "0001", None
def upgrade():
    op.execute("CREATE TABLE goods (name text)")
"""
SECOND = """
from alembic import op
revision, down_revision = "0002", "0001"
def upgrade():
    op.execute("CREATE TABLE shelves (name text)")
    op.execute("ALTER TABLE goods ADD COLUMN price int")
"""


@pytest.fixture
async def empty(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AsyncEngine]:
    """A database whose service has two revisions; neither is applied."""
    for number, content in enumerate((FIRST, SECOND), 1):
        (tmp_path / f"{number:04}.py").write_text(content)

    def here(_: str) -> Path:
        return tmp_path

    monkeypatch.setattr(migrate, "migrations_of", here)
    server = create_async_engine(postgres_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    async with server.connect() as connection:
        await connection.execute(text("CREATE DATABASE migrating"))
    engine = create_async_engine(server.url.set(database="migrating"), poolclass=NullPool)
    yield engine
    async with server.connect() as connection:
        await connection.execute(text("DROP DATABASE migrating WITH (FORCE)"))
    await server.dispose()


async def upgraded(engine: AsyncEngine, to: str = "head") -> list[str]:
    """The tables there are then."""
    async with engine.begin() as connection:
        await connection.run_sync(migrate.upgrade, "goods", to)
    return await tables(engine)


async def tables(engine: AsyncEngine) -> list[str]:
    names = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
    async with engine.connect() as connection:
        return list(await connection.scalars(text(names)))


async def revision(engine: AsyncEngine) -> str | None:
    async with engine.connect() as connection:
        return await connection.scalar(text("SELECT version_num FROM alembic_version"))


async def test_a_revision_can_be_named(empty: AsyncEngine) -> None:
    assert await upgraded(empty, "0001") == ["alembic_version", "goods"]
    assert await upgraded(empty) == ["alembic_version", "goods", "shelves"]


async def test_a_table_in_use_stops_it_with_nothing_done_and_it_can_run_again(
    empty: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT", "100ms")
    before = await upgraded(empty, "0001")
    async with empty.begin() as user:
        await user.execute(text("INSERT INTO goods VALUES ('tea')"))
        with pytest.raises(DBAPIError, match="lock timeout"):
            await upgraded(empty)
        assert await tables(empty) == before
    assert "shelves" in await upgraded(empty)


async def test_a_former_release_leaves_a_newer_schema_as_it_is(
    empty: AsyncEngine, tmp_path: Path
) -> None:
    newer = await upgraded(empty)
    (tmp_path / "0002.py").unlink()
    await migrate.migrate(empty, "goods")
    assert await tables(empty) == newer
    assert await revision(empty) == "0002"
