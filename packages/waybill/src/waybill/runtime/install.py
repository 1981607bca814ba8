"""Finds Dapr's runtime and command line, or gets them: prebuilt, or built from source.

What is installed is used if its version fits and never touched; what is missing goes into a cache
outside the checkout, which `dapr` is pointed to by DAPR_RUNTIME_PATH.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from waybill.errors import PlatformError
from waybill.progress import Stage
from waybill.runtime import go_build, prebuilt
from waybill.runtime.cached import cache, once

SERIES = "1.18"
"""Any patch of this release fits."""

_PROGRAMS = ("daprd", "placement", "scheduler", "sentry")


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
        await once(_destination(), stage, lambda home: _fill(home, stage, log))
        runtime = find()
    if runtime is None:
        raise PlatformError(f"What is in {_destination()} does not work.", fix=f"see {log}")
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


async def _fill(home: Path, stage: Stage, log: Path) -> None:
    programs = _programs(home)
    programs.mkdir(parents=True)
    if not await prebuilt.download(programs, stage):
        await go_build.build(go_build.TARGETS, programs, stage, log)
        (programs / "cli").rename(programs / "dapr")
