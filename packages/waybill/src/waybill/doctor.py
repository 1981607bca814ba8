"""Looks for whatever would keep the platform from starting on this machine."""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

import psutil

from waybill import credentials, leftovers, lock, ports
from waybill.parts import rabbitmq
from waybill.project import Project
from waybill.runtime import debian, go_build, install

_GIBIBYTE = 2**30
_MEMORY_NEEDED = 4 * _GIBIBYTE
_DISK_NEEDED = 2 * _GIBIBYTE
_DISK_TO_BUILD = 12 * _GIBIBYTE
"""Modules, build cache and programs, where Dapr has to be built from source."""
_OLDEST_PYTHON = (3, 11)
_OLDEST_RABBITMQ = (3, 10)


class Level(Enum):
    FINE = auto()
    HINT = auto()
    BROKEN = auto()


@dataclass(frozen=True)
class Finding:
    subject: str
    level: Level
    message: str
    fix: str = ""


def examine(project: Project) -> list[Finding]:
    """Every check, whatever the others found."""
    return [
        _system(),
        _python(),
        *_dapr(project),
        _broker(),
        _browser(),
        _memory(project),
        *_ports(project),
    ]


def _system() -> Finding:
    if sys.platform == "linux":
        return Finding("System", Level.FINE, os.uname().release)
    return Finding("System", Level.BROKEN, f"{sys.platform} has no pidfd", "use Linux or Docker")


def _python() -> Finding:
    version = _dotted(sys.version_info[:3])
    if sys.version_info >= _OLDEST_PYTHON:
        return Finding("Python", Level.FINE, version)
    return Finding("Python", Level.BROKEN, f"{version} is too old", "install Python 3.11 or newer")


def _dapr(project: Project) -> Iterator[Finding]:
    runtime = install.find()
    if runtime:
        yield Finding("Dapr", Level.FINE, f"{runtime.version} in {runtime.programs}")
        yield _disk(project, _DISK_NEEDED)
        return
    series = install.SERIES
    yield Finding("Dapr", Level.HINT, f"{series} is not installed", "`waybill up` installs it")
    yield _go()
    yield _disk(project, _DISK_TO_BUILD)


def _go() -> Finding:
    """Of interest only where Dapr is not installed and may have to be built."""
    version = go_build.go_version()
    if version and version >= go_build.OLDEST_GO:
        return Finding("Go", Level.FINE, _dotted(version))
    found = "not installed" if version is None else f"{_dotted(version)} is too old"
    fix = "install it from https://go.dev/dl, unless Dapr's releases can be downloaded"
    return Finding("Go", Level.HINT, found, fix)


def _broker() -> Finding:
    if credentials.external_broker():
        return Finding("RabbitMQ", Level.FINE, f"elsewhere, says {credentials.BROKER_VARIABLE}")
    server = rabbitmq.find_server()
    if server is None:
        return _missing("RabbitMQ", rabbitmq.PACKAGE, "`waybill up` installs it", Level.BROKEN)
    version = rabbitmq.version(server)
    if version and version < _OLDEST_RABBITMQ:
        return Finding("RabbitMQ", Level.BROKEN, f"{_dotted(version)} is too old", "install 3.10")
    return Finding("RabbitMQ", Level.FINE, _dotted(version) or str(server))


def _browser() -> Finding:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser:
        return Finding("Chromium", Level.FINE, browser)
    return _missing("Chromium", "chromium", "`make test` installs it", Level.HINT)


def _missing(subject: str, package: str, by_us: str, level: Level) -> Finding:
    """Only a hint where we may install the package ourselves."""
    if debian.can_install():
        return Finding(subject, Level.HINT, "not installed", by_us)
    return Finding(subject, level, "not installed", debian.command(package))


def _disk(project: Project, needed: int) -> Finding:
    free = shutil.disk_usage(project.root).free
    message = f"{free / _GIBIBYTE:.0f} GiB free, {needed / _GIBIBYTE:.0f} GiB needed"
    if free >= needed:
        return Finding("Disk", Level.FINE, message)
    return Finding("Disk", Level.BROKEN, message, f"free some space on the disk of {project.root}")


def _memory(project: Project) -> Finding:
    available = psutil.virtual_memory().available
    message = f"{available / _GIBIBYTE:.1f} GiB available, {_MEMORY_NEEDED / _GIBIBYTE:.0f} needed"
    if available >= _MEMORY_NEEDED or lock.holder(project):
        return Finding("Memory", Level.FINE, message)
    return Finding("Memory", Level.BROKEN, message, "end what uses it, or use a larger machine")


def _ports(project: Project) -> Iterator[Finding]:
    wanted = ports.needed(project, broker=credentials.external_broker() is None)
    ours = (process.pid for process in leftovers.find(project))
    conflicts = ports.conflicts(wanted, ours)
    for conflict in conflicts:
        yield Finding("Ports", Level.BROKEN, str(conflict), conflict.fix)
    if not conflicts:
        yield Finding("Ports", Level.FINE, f"all {len(wanted)} are free or ours")


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
