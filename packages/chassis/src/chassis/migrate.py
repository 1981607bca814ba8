"""Brings a service's database to its newest schema: `python -m chassis.migrate <service>`.

Waits for the database if need be. With `--wait` it changes nothing, and ends once the schema is
there.
"""

import argparse
import asyncio
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from asyncpg import PostgresError
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

log = structlog.get_logger(__name__)

LOCK_TIMEOUT = "5s"
"""Less than the services wait for a lock: their requests survive a migration that gives up."""

_WAIT_SECONDS = 600
_POLL_SECONDS = 1.0


def migrations_of(service: str) -> Path:
    """`services/<service>/migrations`, beside the `src` that the package was found in."""
    package = importlib.import_module(service)
    return Path(str(package.__file__)).parents[2] / "migrations"


def _scripts(service: str) -> tuple[Config, ScriptDirectory]:
    config = Config()
    folder = migrations_of(service)
    config.set_main_option("script_location", str(folder))
    config.set_main_option("version_locations", str(folder))
    config.set_main_option("path_separator", "os")
    return config, ScriptDirectory.from_config(config)


def upgrade(connection: Connection, service: str, to: str = "head") -> None:
    """Runs what is missing, in one transaction, alone: replicas that start together wait.

    A table that is in use for longer than `LOCK_TIMEOUT` makes it fail with nothing done, for
    whoever comes after the waiting migration waits, too. It can be run again. A schema that is
    newer than this code stays as it is, for a release may be rolled back.
    """
    config, script = _scripts(service)

    def steps(revision: Any, _: Any) -> Any:
        if not is_behind(connection, service):
            return []
        # As alembic.command.upgrade does it, but on a connection of ours.
        return script._upgrade_revs(to, revision)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    with EnvironmentContext(config, script, fn=steps) as environment:
        environment.configure(connection=connection, target_metadata=None)
        with environment.begin_transaction():
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7236)")
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            environment.run_migrations()


def is_behind(connection: Connection, service: str) -> bool:
    """False for a schema that is newer than this code, too: what came with it is additive."""
    _, script = _scripts(service)
    older = {revision.revision for revision in script.walk_revisions()} - set(script.get_heads())
    applied = MigrationContext.configure(connection).get_current_heads()
    return not applied or not older.isdisjoint(applied)


async def wait(engine: AsyncEngine, service: str) -> None:
    """Returns once the schema is there."""
    await _until(engine, lambda connection: not is_behind(connection, service))


async def migrate(engine: AsyncEngine, service: str) -> None:
    await _until(engine, lambda _: True)
    async with engine.begin() as connection:
        await connection.run_sync(upgrade, service)


async def _until(engine: AsyncEngine, condition: Callable[[Connection], bool]) -> None:
    """Raises `TimeoutError` after ten minutes; bears with a database that is not there yet."""
    async with asyncio.timeout(_WAIT_SECONDS):
        while True:
            try:
                async with engine.connect() as connection:
                    if await connection.run_sync(condition):
                        return
            except (OSError, DBAPIError, PostgresError) as error:
                log.info("waiting_for_the_database", reason=str(error))
            await asyncio.sleep(_POLL_SECONDS)


async def main(service: str, *, only_wait: bool) -> None:
    engine = create_async_engine(os.environ["DATABASE_URL"], poolclass=NullPool)
    await (wait if only_wait else migrate)(engine, service)
    await engine.dispose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="chassis.migrate")
    parser.add_argument("service")
    parser.add_argument("--wait", action="store_true", help="until the schema is there")
    given = parser.parse_args()
    asyncio.run(main(given.service, only_wait=given.wait))
