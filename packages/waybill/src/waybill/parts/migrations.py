"""Brings each service's database up to the newest revision in its `migrations` directory."""

import asyncio
import sys

import asyncpg

from waybill.credentials import PlatformSecrets
from waybill.errors import PlatformError
from waybill.logs import last_lines
from waybill.parts import postgres
from waybill.parts.command import infrastructure
from waybill.processes import run
from waybill.project import Project

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


async def _is_behind(project: Project, secrets: PlatformSecrets, service: str) -> bool:
    newest = await asyncio.to_thread(_heads, str(project.migrations(service)))
    return await _applied(secrets, service) != newest


def _heads(folder: str) -> set[str]:
    from alembic.script import ScriptDirectory  # noqa: PLC0415  # takes a second: off the event loop

    return set(ScriptDirectory(folder, version_locations=[folder]).get_heads())


async def _applied(secrets: PlatformSecrets, service: str) -> set[str]:
    async with postgres.connection(secrets, service) as session:
        try:
            rows = await session.fetch("SELECT version_num FROM alembic_version")
        except asyncpg.UndefinedTableError:
            return set()
        return {row["version_num"] for row in rows}
