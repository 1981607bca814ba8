"""Takes a backup. The order decides what the copy can be trusted to say.

1. The ledger: every order that it calls acknowledged was committed before it was copied.
2. The cluster with all databases, physically and as of one moment. Copies of single databases
   would be of different moments; and a dump would not keep the numbers of transactions, by which
   consumers remember how far they have read the event logs.
3. The provider's records. A charge that the databases do not know yet is asked for again under
   its idempotency key, and found. One that they know and the provider does not would be a lie.

The broker is left out: what its queues hold is in the event logs.
"""

import asyncio
import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncGenerator, Generator, Iterable
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from valkey.asyncio import Valkey

from waybill import control, credentials, ledger, leftovers, lock, ports
from waybill.backup import archive
from waybill.credentials import PlatformSecrets
from waybill.errors import PlatformError
from waybill.logs import last_lines
from waybill.parts import migrations, postgres, valkey
from waybill.parts.command import infrastructure
from waybill.processes import run
from waybill.progress import Board
from waybill.project import Project
from waybill.supervisor import Phase

LIMITS_DATABASE = 1
"""Of Valkey: what people have configured. The others are caches."""
_COPY_SECONDS = 3600
_START_SECONDS = 60
_WAL_BYTES = 64 * 2**20
"""Room for what is written to the databases while they are copied."""


@dataclass(frozen=True)
class _Source:
    """What was copied, and when: all that was acknowledged before then is in the copy."""

    postgres_version: str
    schemas: dict[str, list[str]]
    taken_at: datetime


def default_path() -> Path:
    return Path.cwd() / f"waybill-backup-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar.gz"


def take(project: Project, path: Path, board: Board) -> None:
    """Writes the archive; the platform may be up or down, but not on its way between."""
    secrets = credentials.load(project)
    _require_name(path)
    project.logs.mkdir(parents=True, exist_ok=True)
    with workplace(project) as folder:
        source = asyncio.run(_copy(project, secrets, folder, path, board))
        with board.stage("Archive") as stage:
            stage.detail = f"{archive.mebibytes(archive.size_of(folder))} to compress"
            _pack(path, folder, source)
            stage.detail = archive.mebibytes(path.stat().st_size)


def _require_name(path: Path) -> None:
    if path.exists():
        raise PlatformError(f"{path} exists already.", fix="choose another name")
    if not path.parent.is_dir():
        raise PlatformError(f"There is no directory {path.parent}.", fix=f"mkdir -p {path.parent}")


@contextmanager
def workplace(project: Project) -> Generator[Path]:
    """An empty directory, for one backup at a time; what a killed one left behind goes first."""
    home = project.state / "backup"
    home.mkdir(exist_ok=True, mode=0o700)
    descriptor = os.open(home, os.O_RDONLY)
    try:
        _claim(descriptor)
        for leftover in home.iterdir():
            shutil.rmtree(leftover)
        with tempfile.TemporaryDirectory(dir=home) as folder:
            yield Path(folder)
    finally:
        os.close(descriptor)


def _claim(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PlatformError("Another backup is being taken.", fix="wait for its end") from None


async def _copy(
    project: Project, secrets: PlatformSecrets, folder: Path, path: Path, board: Board
) -> _Source:
    async with _stores(project, secrets, board):
        with board.stage("Ledger and secrets"):
            _copy_ledger(project, folder)
            _copy_secrets(project, folder)
        with board.stage("Databases") as stage:
            size = await _require_room(secrets, folder, path)
            stage.detail = f"about {archive.mebibytes(size)}"
            source = await _source(project, secrets)
            await _copy_cluster(project, secrets, folder)
        with board.stage("Payment provider and rate limits"):
            _copy_provider(project, folder)
            await _copy_limits(secrets, folder)
        return source


@asynccontextmanager
async def _stores(project: Project, secrets: PlatformSecrets, board: Board) -> AsyncGenerator[None]:
    """Those of the platform that is up, or the two that can be asked only while they run."""
    if lock.holder(project) is not None:
        status = await control.status(project)
        if status is None or status.phase is not Phase.READY:
            raise PlatformError("The platform starts or stops just now.", fix="try again soon")
        yield
        return
    with lock.hold(project):
        leftovers.end(project)
        _require_free(ports.POSTGRES, ports.VALKEY)
        cluster = postgres.locate(project)
        if not cluster.data.exists():
            raise PlatformError("There is nothing to back up yet.", fix="waybill up")
        servers = (
            postgres.process(project, cluster, secrets),
            valkey.process(project, secrets),
        )
        try:
            with board.stage("PostgreSQL and Valkey, for the backup only"):
                for server in servers:
                    server.start()
                    await server.wait_ready(_START_SECONDS)
            yield
        finally:
            for server in servers:
                await server.stop()


def _require_free(*wanted: int) -> None:
    for conflict in ports.conflicts(dict.fromkeys(wanted, "backup")):
        raise PlatformError(f"{conflict}.", fix=conflict.fix)


def _copy_ledger(project: Project, folder: Path) -> None:
    if ledger.path_of(project).exists():
        shutil.copyfile(ledger.path_of(project), folder / archive.LEDGER)


def _copy_secrets(project: Project, folder: Path) -> None:
    target = folder / archive.SECRETS
    target.mkdir()
    for suffix in ("*.json", "*.pgpass"):
        for path in project.secrets.glob(suffix):
            shutil.copyfile(path, target / path.name)


async def _require_room(secrets: PlatformSecrets, folder: Path, path: Path) -> int:
    """For the copy in the folder, and at most as much again for the archive; the bytes of one."""
    sizes = "SELECT sum(pg_database_size(oid))::bigint FROM pg_database"
    async with postgres.connection(secrets, "postgres") as session:
        size = int(await session.fetchval(sizes)) + _WAL_BYTES
    archive.require_room(size, folder, path.parent)
    return size


async def _copy_cluster(project: Project, secrets: PlatformSecrets, folder: Path) -> None:
    target = (folder / archive.CLUSTER).parent
    program = postgres.locate(project).programs / "pg_basebackup"
    options = (
        *("--host", ports.HOST, "--port", str(ports.POSTGRES), "--username", postgres.SUPERUSER),
        *("--pgdata", str(target), "--format", "tar", "--wal-method", "stream"),
        *("--checkpoint", "fast", "--manifest-checksums", "SHA256", "--no-sync", "--no-password"),
    )
    environment = {"PGPASSWORD": secrets.postgres_password}
    command = infrastructure(project, "backup", [str(program), *options], environment)
    if await run(command, _COPY_SECONDS) != 0:
        end = f"The end of {command.log}:\n{last_lines(command.log)}"
        raise PlatformError(f"The databases could not be copied. {end}")


async def _source(project: Project, secrets: PlatformSecrets) -> _Source:
    async with postgres.connection(secrets, "postgres") as session:
        server_version = str(await session.fetchval("SHOW server_version"))
        present = {row["datname"] for row in await session.fetch("SELECT datname FROM pg_database")}
    schemas = {
        service: sorted(await migrations.applied(secrets, service))
        for service in project.databases
        if service in present
    }
    return _Source(server_version, schemas, datetime.now(UTC))


def _copy_provider(project: Project, folder: Path) -> None:
    source = project.state / archive.PROVIDER
    if not source.exists():
        return
    target = folder / archive.PROVIDER
    target.parent.mkdir()
    with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(target)) as copy:
        live.backup(copy)


async def _copy_limits(secrets: PlatformSecrets, folder: Path) -> None:
    """As the commands that set them again: Valkey reads its own log of commands at its start."""
    async with Valkey(
        host=ports.HOST,
        port=ports.VALKEY,
        password=secrets.valkey_password,
        db=LIMITS_DATABASE,
        decode_responses=True,
    ) as client:
        keys = [str(key) async for key in client.scan_iter(_type="STRING")]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType, reportUnknownArgumentType]  # its annotations are loose
        values = [await client.get(key) for key in keys]
    known = [(key, value) for key, value in zip(keys, values, strict=True) if value is not None]
    commands = [("SELECT", str(LIMITS_DATABASE)), *(("SET", *pair) for pair in known)]
    target = folder / archive.LIMITS
    target.parent.mkdir()
    target.write_bytes(b"".join(map(_as_logged, commands)))


def _as_logged(command: Iterable[str]) -> bytes:
    words = [word.encode() for word in command]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words)


def _pack(path: Path, folder: Path, source: _Source) -> None:
    manifest = archive.Manifest(
        waybill_version=version("waybill"),
        postgres_version=source.postgres_version,
        schemas=source.schemas,
        taken_at=source.taken_at,
        size=archive.size_of(folder),
        members=archive.checksums(folder),
    )
    archive.write(path, folder, manifest)
