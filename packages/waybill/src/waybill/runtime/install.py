"""Finds Dapr's runtime and command line, or gets them: prebuilt, or built from source.

What is installed is used if its version fits and never touched; what is missing goes into a cache
outside the checkout, which `dapr` is pointed to by DAPR_RUNTIME_PATH.
"""

import asyncio
import fcntl
import os
import shutil
import subprocess
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from waybill.errors import PlatformError
from waybill.progress import Stage
from waybill.runtime import go_build, prebuilt

SERIES = "1.18"
"""Any patch of this release fits."""

_PROGRAMS = ("daprd", "placement", "scheduler", "sentry")
_LOCK_SECONDS = 3600


@dataclass(frozen=True)
class DaprRuntime:
    version: str
    programs: Path
    cli: Path

    def binary(self, name: str) -> Path:
        return self.programs / name


def find() -> DaprRuntime | None:
    """The first complete installation of a fitting version."""
    for programs in _candidates():
        cli = _cli(programs)
        if cli and all(os.access(programs / name, os.X_OK) for name in _PROGRAMS):
            version = version_of(programs / "daprd")
            if version.startswith(f"{SERIES}."):
                return DaprRuntime(version, programs, cli)
    return None


async def ensure(stage: Stage, log: Path) -> DaprRuntime:
    """Finds or installs the runtime, and keeps `stage` telling what is happening and why."""
    runtime = find()
    if runtime is None:
        async with alone(cache() / "dapr", stage):
            runtime = find() or await _install(stage, log)
    stage.detail = f"{runtime.version} in {runtime.programs}"
    return runtime


def version_of(daprd: Path) -> str:
    """Empty when the program does not answer."""
    try:
        answer = subprocess.run(  # noqa: S603  # a program that was found where Dapr installs it
            [str(daprd), "--version"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip()


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "waybill"


def _candidates() -> Iterator[Path]:
    if chosen := os.environ.get("DAPR_RUNTIME_PATH"):
        yield _programs(Path(chosen))
    yield _programs(Path.home())
    yield _programs(_destination())


def _programs(home: Path) -> Path:
    return home / ".dapr" / "bin"


def _destination() -> Path:
    """A different pin is a different directory, so an upgrade never mixes versions."""
    return cache() / "dapr" / go_build.fingerprint(go_build.TARGETS)


def _cli(programs: Path) -> Path | None:
    beside = programs / "dapr"
    if os.access(beside, os.X_OK):
        return beside
    on_path = shutil.which("dapr")
    return Path(on_path) if on_path else None


async def _install(stage: Stage, log: Path) -> DaprRuntime:
    destination = _destination()
    draft = destination.with_name(f"{destination.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    _programs(draft).mkdir(parents=True)
    if not await prebuilt.download(_programs(draft), stage):
        await go_build.build(go_build.TARGETS, _programs(draft), stage, log)
        (_programs(draft) / "cli").rename(_programs(draft) / "dapr")
    draft.rename(destination)
    runtime = find()
    if runtime is None:
        raise PlatformError(f"What was installed in {destination} does not work.", fix=f"see {log}")
    return runtime


@asynccontextmanager
async def alone(directory: Path, stage: Stage) -> AsyncGenerator[None]:
    """Two checkouts that start at once must not build the same thing twice."""
    directory.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240  # at once
    with (directory / "lock").open("w") as lock:
        async with asyncio.timeout(_LOCK_SECONDS):
            while not _try_lock(lock.fileno()):
                stage.detail = "waiting for another `waybill`, which is installing the same"
                await asyncio.sleep(1)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
