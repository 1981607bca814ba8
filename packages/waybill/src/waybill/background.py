"""A platform that runs behind this process: started, waited for, and stopped from here."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import psutil
from rich.console import Console

from waybill import control, leftovers, lock
from waybill.errors import PlatformError
from waybill.logs import last_lines
from waybill.progress import Stage, display
from waybill.project import Project
from waybill.supervisor import Phase

_POLL_SECONDS = 0.25
_STOP_SECONDS = 90


_UP = (sys.executable, "-m", "waybill", "up")


@asynccontextmanager
async def platform(project: Project, console: Console) -> AsyncGenerator[None]:
    """The platform that runs already, or one for the length of the block.

    One that was started here goes down with this process, however this process ends.
    """
    if lock.holder(project):
        await wait_ready(project, console, None)
        yield
        return
    lifeline, grip = os.pipe()
    child = spawn(project, _UP, lifeline)
    os.close(lifeline)
    try:
        await wait_ready(project, console, child)
        yield
    finally:
        os.close(grip)
        await stop(project, console)
        await asyncio.to_thread(child.wait, _STOP_SECONDS)


async def start(project: Project, console: Console) -> None:
    """Leaves the platform running; returns when it is ready, or raises what it met."""
    child = spawn(project, _UP)
    try:
        await wait_ready(project, console, child)
    except PlatformError:
        await stop(project, console)
        raise


async def stop(project: Project, console: Console) -> bool:
    """Ends the platform and whatever a killed supervisor left of one; False if there was none."""
    supervisor = lock.holder(project)
    if supervisor is not None:
        status = await control.status(project)
        await control.stop(project)
        await _wait_gone(project, console, skip=len(status.stages) if status else 0)
        _kill_if_stuck(project, supervisor)
    ended = await asyncio.to_thread(leftovers.end, project)
    return supervisor is not None or ended > 0


def spawn(
    project: Project, argv: Sequence[str], lifeline: int | None = None
) -> subprocess.Popen[bytes]:
    """Starts a supervisor that outlives this process, unless it holds the other end of a pipe."""
    project.logs.mkdir(parents=True, exist_ok=True)
    inherited = () if lifeline is None else (lifeline,)
    options = [option for fd in inherited for option in ("--lifeline", str(fd))]
    with project.log("supervisor").open("wb") as log:
        return subprocess.Popen(  # noqa: S603  # this very program
            [*argv, *options],
            cwd=project.root,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=inherited,
            start_new_session=True,
        )


@dataclass
class _Seen:
    """The last news of a supervisor, for the display."""

    stages: list[Stage]


async def wait_ready(
    project: Project, console: Console, child: subprocess.Popen[bytes] | None
) -> None:
    """Unbounded on purpose: each stage has its own deadline, and its end is noticed here.

    Without a `child` the supervisor is somebody else's.
    """
    seen = _Seen([])
    with display(console, lambda: seen.stages):
        while True:
            status = await control.status(project)
            seen.stages = status.stages if status else seen.stages
            match status.phase if status else None:
                case Phase.READY:
                    return
                case Phase.FAILED:
                    raise PlatformError(status.error if status else "")
                case _:
                    _require_life(project, child)
            await asyncio.sleep(_POLL_SECONDS)


def _require_life(project: Project, child: subprocess.Popen[bytes] | None) -> None:
    gone = lock.holder(project) is None if child is None else child.poll() is not None
    if gone:
        log = project.log("supervisor")
        raise PlatformError(f"The supervisor ended. The end of {log}:\n{last_lines(log, 30)}")


async def _wait_gone(project: Project, console: Console, skip: int) -> None:
    """Shows the stages after the first `skip`, which were those of the start."""
    seen = _Seen([])
    with display(console, lambda: seen.stages), suppress(TimeoutError):
        async with asyncio.timeout(_STOP_SECONDS):
            while lock.holder(project) is not None:
                if status := await control.status(project):
                    seen.stages = status.stages[skip:]
                await asyncio.sleep(_POLL_SECONDS)


def _kill_if_stuck(project: Project, supervisor: int) -> None:
    if lock.holder(project) == supervisor:
        psutil.Process(supervisor).kill()
