"""The life of one supervisor, from the first progress line to the last process that ended."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from rich.console import Console
from rich.text import Text

from waybill import control, leftovers, lock
from waybill.errors import PlatformError
from waybill.progress import Stage, display
from waybill.project import Project
from waybill.supervisor import Phase, Supervisor
from waybill.urls import urls

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


Start: TypeAlias = Callable[[Project, Supervisor], Coroutine[Any, Any, None]]


async def run(project: Project, console: Console, start: Start, lifeline: int | None = None) -> int:
    """Starts the platform and keeps it up until it is told to stop; the exit code.

    `lifeline` is a pipe that somebody holds open: when it closes, the platform goes down too.
    """
    with lock.hold(project):
        supervisor = Supervisor(report=lambda line: console.print(line, markup=False))
        stop = asyncio.Event()
        _listen(supervisor, stop, lifeline)
        async with control.serve(project, supervisor, stop):
            return await _live(project, supervisor, start, stop, console)


async def _live(
    project: Project,
    supervisor: Supervisor,
    start: Start,
    stop: asyncio.Event,
    console: Console,
) -> int:
    try:
        with display(console, lambda: supervisor.board.stages):
            await _start(start(project, supervisor), stop)
        if supervisor.phase is Phase.READY:
            console.print(urls(project))
            console.print("Ctrl-C stops everything.", style="dim")
            await stop.wait()
    except PlatformError as failure:
        supervisor.phase, supervisor.error = Phase.FAILED, str(failure)
        console.print(Text(str(failure), style="red"), soft_wrap=True)
    finally:
        await _stop(project, supervisor, console)
    return 1 if supervisor.error else 0


async def _start(start: Coroutine[Any, Any, None], stop: asyncio.Event) -> None:
    """Ends early, and silently, when a stop is asked for meanwhile."""
    starting = asyncio.create_task(start)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if starting.done():
        return starting.result()
    starting.cancel()
    with suppress(asyncio.CancelledError):
        await starting
    return None


async def _stop(project: Project, supervisor: Supervisor, console: Console) -> None:
    shown = len(supervisor.board.stages)

    def stages() -> Sequence[Stage]:
        return supervisor.board.stages[shown:]

    with display(console, stages):
        await supervisor.stop()
    if survivors := await asyncio.to_thread(leftovers.end, project):
        console.print(f"Ended {survivors} more processes that the platform had started.")


def _listen(supervisor: Supervisor, stop: asyncio.Event, lifeline: int | None) -> None:
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        if stop.is_set():
            supervisor.kill()
        stop.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, interrupt)
    if lifeline is not None:

        def cut() -> None:
            loop.remove_reader(lifeline)
            stop.set()

        loop.add_reader(lifeline, cut)
