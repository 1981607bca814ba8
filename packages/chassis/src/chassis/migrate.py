"""Brings a service's database to its newest schema: `python -m chassis.migrate <service>`."""

import asyncio
import importlib
import os
import sys
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

LOCK_TIMEOUT = "5s"
"""Less than the services wait for a lock: their requests survive a migration that gives up."""


def migrations_of(service: str) -> Path:
    """`services/<service>/migrations`, beside the `src` that the package was found in."""
    package = importlib.import_module(service)
    return Path(str(package.__file__)).parents[2] / "migrations"


def upgrade(connection: Connection, service: str, to: str = "head") -> None:
    """Runs what is missing, in one transaction, alone: replicas that start together wait.

    A table that is in use for longer than `LOCK_TIMEOUT` makes it fail with nothing done, for
    whoever comes after the waiting migration waits, too. It can be run again.
    """
    config = Config()
    folder = migrations_of(service)
    config.set_main_option("script_location", str(folder))
    config.set_main_option("version_locations", str(folder))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)

    def steps(revision: Any, _: Any) -> Any:
        # As alembic.command.upgrade does it, but on a connection of ours.
        return script._upgrade_revs(to, revision)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    with EnvironmentContext(config, script, fn=steps) as environment:
        environment.configure(connection=connection, target_metadata=None)
        with environment.begin_transaction():
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7236)")
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            environment.run_migrations()


async def main(service: str) -> None:
    engine = create_async_engine(os.environ["DATABASE_URL"], poolclass=NullPool)
    async with engine.begin() as connection:
        await connection.run_sync(upgrade, service)
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
