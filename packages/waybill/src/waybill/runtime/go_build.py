"""Builds Go programs in versions that modules of ours pin: Dapr's are beside this file."""

import asyncio
import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from waybill.errors import PlatformError
from waybill.logs import last_lines
from waybill.processes import Command, run, tied
from waybill.progress import Stage

OLDEST_GO = (1, 21)
"""From here on Go fetches the newer toolchain that a go.mod asks for by itself."""

_MODULES = Path(__file__).parent
_BUILD_SECONDS = 3600
_OPTIONS = ("-v", "-trimpath", "-gcflags=all=-dwarf=false")
"""Nobody debugs these, and without what a debugger wants they are compiled in a tenth less time."""
_SETTINGS = {
    "GOTOOLCHAIN": "auto",
    "GOFLAGS": "-mod=readonly",
    # As Dapr and Kubernetes are released; and so all share what is compiled for several of them.
    "CGO_ENABLED": "0",
    # The compiler collects its own garbage less often: 7 % less time, for a bounded memory.
    "GOGC": "400",
    "GOMEMLIMIT": "2GiB",
}


@dataclass(frozen=True)
class Target:
    """One `go build`: how many packages it compiles, and the minutes it takes on two cores.

    `programs` are packages; those of the module itself begin with a dot.
    """

    module: Path
    programs: Sequence[str]
    options: Sequence[str]
    packages: int
    minutes: float

    @property
    def sources(self) -> list[Path]:
        """All that decides what a build results in and is not in `options`."""
        return [self.module / "go.mod", self.module / "go.sum", *sorted(self.module.rglob("*.go"))]


def pinned(module: Path, requirement: str) -> str:
    """The version that a module of ours requires, without the leading v."""
    found = re.search(
        rf"^\s*(?:require )?{re.escape(requirement)} v(\S+)",
        (module / "go.mod").read_text(),
        re.MULTILINE,
    )
    if found is None:
        raise LookupError(f"{module}/go.mod does not require {requirement}")
    return found[1]


DAPR = _MODULES / "daprd"
CLI = _MODULES / "dapr"
RUNTIME_VERSION = pinned(DAPR, "github.com/dapr/dapr")
CLI_VERSION = pinned(CLI, "github.com/dapr/cli")

_BUILD_INFO = "github.com/dapr/dapr/pkg/buildinfo.version"


def dapr(*services: str) -> Target:
    """The sidecar, as main.go in the module makes it, and services of Dapr's."""
    return Target(
        module=DAPR,
        programs=[".", *(f"github.com/dapr/dapr/cmd/{service}" for service in services)],
        options=["-tags=stablecomponents", f"-ldflags=-s -w -X {_BUILD_INFO}={RUNTIME_VERSION}"],
        packages=2300,
        minutes=5,
    )


TARGETS = (
    dapr("placement", "scheduler", "sentry"),
    Target(
        module=CLI,
        programs=["github.com/dapr/cli"],
        options=[f"-ldflags=-s -w -X main.version={CLI_VERSION}"],
        packages=1770,
        minutes=3,
    ),
)


def fingerprint(targets: Iterable[Target], beside: object = None) -> str:
    """Names what a build would result in, and what is put beside it."""
    known = hashlib.sha256(f"{_OPTIONS} {_SETTINGS} {beside}".encode())
    for target in targets:
        known.update(f"{target.programs} {target.options}".encode())
        for path in target.sources:
            known.update(path.read_bytes())
    return known.hexdigest()[:16]


async def build(targets: Iterable[Target], destination: Path, stage: Stage, log: Path) -> None:
    """Compiles every program into `destination`; a PlatformError says what is missing."""
    _require_go()
    for target in targets:
        await _build(target, destination, stage, log)


def go_version() -> tuple[int, ...] | None:
    """None without Go."""
    go = shutil.which("go")
    if go is None:
        return None
    env = {**os.environ, "GOTOOLCHAIN": "local"}
    answer = subprocess.run(  # noqa: S603  # the Go command of the user
        [go, "env", "GOVERSION"], capture_output=True, text=True, env=env, timeout=20, check=False
    )
    return tuple(int(number) for number in re.findall(r"\d+", answer.stdout))


def source(module: Path, requirement: str) -> Path:
    """Where the source of what a module of ours requires lies, once it was built."""
    answer = subprocess.run(  # noqa: S603  # the Go command of the user
        ["go", "list", "-m", "-f", "{{.Dir}}", requirement],  # noqa: S607  # see `_require_go`
        cwd=module,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return Path(answer.stdout.strip())


def _require_go() -> None:
    version = go_version()
    if version is None or version < OLDEST_GO:
        found = "none was found" if version is None else f"{'.'.join(map(str, version))} is too old"
        raise PlatformError(
            f"This has to be built from source here, which needs Go 1.21 or newer; {found}.",
            fix="install Go from https://go.dev/dl, or Dapr from https://docs.dapr.io",
        )


async def _build(target: Target, destination: Path, stage: Stage, log: Path) -> None:
    watcher = asyncio.create_task(_watch(target, stage, log, _size(log)))
    options = [*_OPTIONS, *target.options, "-o", f"{destination}/"]
    command = Command(
        argv=[*tied(), "go", "build", *options, *target.programs],
        cwd=target.module,
        env={**environment(), **_SETTINGS},
        log=log,
    )
    try:
        if await run(command, _BUILD_SECONDS) != 0:
            raise PlatformError(f"`go build` failed. The end of {log}:\n{last_lines(log)}")
    finally:
        watcher.cancel()
        with suppress(asyncio.CancelledError):
            await watcher


def environment() -> dict[str, str]:
    """Go keeps its caches below the home directory, and does not look for it as Python does."""
    return {"HOME": str(Path.home()), **os.environ}


async def _watch(target: Target, stage: Stage, log: Path, offset: int) -> None:
    started = time.monotonic()
    names = ", ".join(Path(program).name or target.module.name for program in target.programs)
    while True:
        stage.detail = f"building {names} from source, as no prebuilt one can be had: " + estimate(
            _lines(log, offset), target, time.monotonic() - started
        )
        await asyncio.sleep(1)


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def _lines(log: Path, offset: int) -> list[str]:
    if _size(log) == 0:
        return []
    with log.open("rb") as file:
        file.seek(offset)
        return file.read().decode(errors="replace").splitlines()


def estimate(lines: Sequence[str], target: Target, elapsed: float) -> str:
    """What `go build -v` has said so far, as progress and the time that is left."""
    downloads = sum(line.startswith("go: downloading") for line in lines)
    compiled = sum(not line.startswith("go: ") for line in lines)
    if not downloads and not compiled:
        return "checking what is compiled already"
    if not compiled:
        return f"{downloads} modules downloaded, about {target.minutes:.0f} min left"
    share = min(compiled / target.packages, 0.99)
    minutes = max(target.minutes * (1 - share), elapsed / 60 * (1 - share) / max(share, 0.2))
    return f"{compiled:,} of {target.packages:,} packages, about {_minutes(minutes)} left"


def _minutes(minutes: float) -> str:
    return f"{minutes:.0f} min" if minutes >= 1 else "1 min"
