"""The databases of earlier releases: made as they were then, filled with what was recorded."""

import importlib
import json
import lzma
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from chassis.migrate import upgrade
from chassis.testing import StandInSidecar
from fastapi import FastAPI
from sqlalchemy import Connection, MetaData, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

VERSION_TABLE = "alembic_version"

_FILL = """
    INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE
    SELECT {columns} FROM jsonb_populate_recordset(NULL::{table}, CAST(:rows AS jsonb))
"""
_NUMBERED = """
    SELECT table_name, column_name FROM information_schema.columns
    WHERE table_schema = 'public' AND is_identity = 'YES'
"""


@dataclass(frozen=True)
class Recording:
    """The rows of one service's database at one release, by table."""

    path: Path

    def __str__(self) -> str:
        return f"{self.release}-{self.service}"

    @property
    def release(self) -> str:
        return self.path.parent.name

    @property
    def service(self) -> str:
        return self.path.name.partition(".")[0]

    @cached_property
    def tables(self) -> Mapping[str, Sequence[dict[str, Any]]]:
        tables: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for line in lzma.decompress(self.path.read_bytes()).splitlines():
            entry = json.loads(line)
            tables[entry["table"]].append(entry["row"])
        return {table: rows for table, rows in tables.items() if table != VERSION_TABLE}

    @cached_property
    def revision(self) -> str:
        first = lzma.decompress(self.path.read_bytes()).partition(b"\n")[0]
        return json.loads(first)["row"]["version_num"]


RECORDINGS = {path: Recording(path) for path in sorted(Path(__file__).parent.glob("*/*.jsonl.xz"))}


@pytest.fixture(params=RECORDINGS, ids=lambda path: str(RECORDINGS[path]))
def recording_path(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def recording(recording_path: Path) -> Recording:
    return RECORDINGS[recording_path]


@pytest.fixture
def service(recording: Recording) -> str:
    return recording.service


class Databases:
    """Of one test run. Each recording is filled in once, and copied from there."""

    def __init__(self, server_url: str) -> None:
        self._server = create_async_engine(
            server_url, isolation_level="AUTOCOMMIT", poolclass=NullPool
        )
        self._left: dict[Recording, str] = {}
        self._upgraded: dict[Recording, AsyncEngine] = {}
        self._count = 0

    async def left_by(self, recording: Recording) -> AsyncEngine:
        """As the release left it, for one test alone."""
        if recording not in self._left:
            engine = await self._create("template1")
            async with engine.begin() as connection:
                await connection.run_sync(_fill, recording)
            self._left[recording] = str(engine.url.database)
        return await self._create(self._left[recording])

    async def upgraded(self, recording: Recording) -> AsyncEngine:
        """For all tests that leave nothing behind."""
        if recording not in self._upgraded:
            engine = await self.left_by(recording)
            async with engine.begin() as connection:
                await connection.run_sync(upgrade, recording.service)
            self._upgraded[recording] = engine
        return self._upgraded[recording]

    async def _create(self, template: str) -> AsyncEngine:
        self._count += 1
        name = f"release_{self._count}"
        async with self._server.connect() as connection:
            await connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        return create_async_engine(self._server.url.set(database=name), poolclass=NullPool)


@pytest.fixture(scope="session")
async def databases(postgres_url: str) -> Databases:
    return Databases(postgres_url)


@pytest.fixture
async def former(recording: Recording, databases: Databases) -> AsyncEngine:
    """The service's database as the release left it."""
    return await databases.left_by(recording)


@pytest.fixture
async def engine(recording: Recording, databases: Databases) -> AsyncEngine:
    """The same, migrated; what `db` gives the service to work on."""
    return await databases.upgraded(recording)


@pytest.fixture
def app(db: object, stand_in: StandInSidecar, service: str) -> FastAPI:
    return importlib.import_module(f"{service}.app").app


def _fill(connection: Connection, recording: Recording) -> None:
    upgrade(connection, recording.service, recording.revision)
    schema = MetaData()
    schema.reflect(connection)
    tables = [table for table in schema.sorted_tables if table.name != VERSION_TABLE]
    names = ", ".join(table.name for table in tables)
    connection.execute(text(f"TRUNCATE {names}"))  # a migration may have written rows
    for table in tables:
        if rows := recording.tables.get(table.name):
            columns = ", ".join(rows[0])
            fill = text(_FILL.format(table=table.name, columns=columns))
            connection.execute(fill, {"rows": json.dumps(rows)})
    for table, column in connection.execute(text(_NUMBERED)).all():
        newest = f"(SELECT max({column}) FROM {table})"
        sequence = f"pg_get_serial_sequence('{table}', '{column}')"
        connection.execute(text(f"SELECT setval({sequence}, {newest})"))
