"""Brings each service's database up to the newest revision in its `migrations` directory."""

import asyncio
import sys
from typing import TYPE_CHECKING

import asyncpg

from waybill.credentials import PlatformSecrets
from waybill.errors import PlatformError
from waybill.logs import last_lines
from waybill.parts import postgres
from waybill.parts.command import infrastructure
from waybill.processes import run
from waybill.project import Project

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

_AT_ONCE = 4
_SECONDS = 120


async def pending(project: Project, secrets: PlatformSecrets) -> list[str]:
    """The services whose database is behind; asking is cheaper than running Alembic for each."""
    services = [name for name in project.databases if project.migrations(name).is_dir()]
    behind = await asyncio.gather(*(_is_behind(project, secrets, name) for name in services))
    return [service for service, is_behind in zip(services, behind, strict=True) if is_behind]


async def migrate(project: Project, secrets: PlatformSecrets, service: str) -> None:
    """Raises a PlatformError with the end of the log when Alembic fails."""
    command = infrastructure(
        project,
        f"{service}-migrations",
        [sys.executable, "-m", "chassis.migrate", service],
        postgres.owner_environment(secrets, service),
    )
    if await run(command, _SECONDS) != 0:
        end = f"The end of {command.log}:\n{last_lines(command.log)}"
        raise PlatformError(f"The migration of {service} failed. {end}")


async def migrate_all(project: Project, secrets: PlatformSecrets, services: list[str]) -> None:
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(service: str) -> None:
        async with slots:
            await migrate(project, secrets, service)

    async with asyncio.TaskGroup() as group:
        for service in services:
            group.create_task(one(service))


def known(project: Project, service: str) -> set[str]:
    """The revisions from which this release can go on; none for a service that it has not."""
    folder = project.migrations(service)
    if not folder.is_dir():
        return set()
    return {script.revision for script in _scripts(str(folder)).walk_revisions()}


async def applied(secrets: PlatformSecrets, service: str) -> set[str]:
    """What the service's database was migrated to; empty before its first migration."""
    async with postgres.connection(secrets, service) as session:
        try:
            rows = await session.fetch("SELECT version_num FROM alembic_version")
        except asyncpg.UndefinedTableError:
            return set()
        return {row["version_num"] for row in rows}


async def _is_behind(project: Project, secrets: PlatformSecrets, service: str) -> bool:
    newest = await asyncio.to_thread(_heads, str(project.migrations(service)))
    return await applied(secrets, service) != newest


def _heads(folder: str) -> set[str]:
    return set(_scripts(folder).get_heads())


def _scripts(folder: str) -> "ScriptDirectory":
    from alembic.script import ScriptDirectory  # noqa: PLC0415  # takes a second: off the event loop

    return ScriptDirectory(folder, version_locations=[folder])
