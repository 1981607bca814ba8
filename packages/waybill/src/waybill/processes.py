"""Keeps one process alive: starts it, notices its end at once, starts it again, stops it."""

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from pathlib import Path

import psutil

from waybill.errors import PlatformError
from waybill.logs import last_lines, take_over
from waybill.waiting import Condition, until

OUTPUT_SECONDS = 60
_LONG_LIFE_SECONDS = 60
"""A process that lived this long did not die of its start: the back-off begins anew."""
_MAX_BACKOFF_SECONDS = 30
_GRACE_SECONDS = 10
"""For a command that is not wanted any more to take back what it has begun."""


class State(StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    BACKING_OFF = "backing off"


class Layer(IntEnum):
    """Layers stop one after the other, what stands on the others first."""

    APP = 0
    SIDECAR = 1
    DAPR_RUN = 2
    INFRASTRUCTURE = 3
    FOUNDATION = 4


@dataclass(frozen=True)
class Command:
    """All that is needed to start a process again exactly as it was."""

    argv: Sequence[str]
    cwd: Path
    env: Mapping[str, str] = field(repr=False)
    log: Path
    uid: int | None = None

    def spawn(self) -> subprocess.Popen[bytes]:
        take_over(self.log)
        with self.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603  # argv is ours, and no shell reads it
                self.argv,
                cwd=self.cwd,
                env=self.env,
                user=self.uid,
                group=self.uid,
                extra_groups=None if self.uid is None else [],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,  # Ctrl-C is for the supervisor, which stops things in order
            )


class _Hold:
    """A race-free hold on a process, our child or not: its pid cannot come to mean another."""

    def __init__(self, pid: int, child: subprocess.Popen[bytes] | None) -> None:
        self.pid = pid
        self.started_at = psutil.Process(pid).create_time()
        self.exit_code: int | None = None
        self._child = child
        self._is_abandoned = False
        self._descriptor = os.pidfd_open(pid)
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._descriptor, self._end)

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set()

    @property
    def is_adopted(self) -> bool:
        return self._child is None

    async def end(self) -> None:
        await self._ended.wait()

    def send(self, number: signal.Signals) -> None:
        if not self.has_ended:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, number)

    async def abandon(self) -> None:
        """Ends a child and all of its group: asks, waits a while, then kills."""
        if self.has_ended:
            return
        with suppress(PermissionError):  # what sudo runs comes to its own end
            self._send_group(signal.SIGTERM)
            self._is_abandoned = True
            try:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.end(), _GRACE_SECONDS)
            finally:
                self._send_group(signal.SIGKILL)
            await self.end()

    def _send_group(self, number: signal.Signals) -> None:
        """Until its leader is waited for, the group's id cannot come to mean another."""
        if not self.has_ended:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        if self._is_abandoned:
            self._send_group(signal.SIGKILL)  # what it has left of its own
        if self._child is not None:
            self.exit_code = self._child.wait()
        self._ended.set()


async def run(command: Command, seconds: float) -> int | None:
    """Runs a command to its end and returns its exit code; never leaves it behind."""
    child = command.spawn()
    hold = _Hold(child.pid, child)
    try:
        await asyncio.wait_for(hold.end(), seconds)
    except TimeoutError:
        raise PlatformError(f"{command.argv[0]} took more than {seconds:.0f} s.") from None
    finally:
        await hold.abandon()
    return hold.exit_code


def tied() -> list[str]:
    """The start of a command line that the kernel ends with its parent, even one that is killed.

    Nothing where there is no Linux. What the command starts itself is not tied to it.
    """
    return ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []


async def output(
    *argv: str,
    stdin: str = "",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    seconds: float = OUTPUT_SECONDS,
) -> str:
    """What a program prints; a PlatformError says what it complains of."""
    typed = " ".join((Path(argv[0]).name, *argv[1:]))
    process = await asyncio.create_subprocess_exec(
        *argv,
        cwd=cwd,
        env=env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds):
            printed, complaints = await process.communicate(stdin.encode())
    except TimeoutError:
        raise PlatformError(f"`{typed}` took more than {seconds:.0f} s.") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        said = (complaints or printed).decode().strip()
        raise PlatformError(f"`{typed}` failed:\n{said}")
    return printed.decode()


class Supervised:
    """One named process. `start` or `adopt` it, wait until it is ready, then `keep_alive`."""

    def __init__(
        self,
        name: str,
        command: Command,
        ready: Condition,
        *,
        ports: Sequence[int] = (),
        layer: Layer = Layer.INFRASTRUCTURE,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace_seconds: float = 10,
    ) -> None:
        self.name = name
        self.command = command
        self.ready = ready
        self.ports = ports
        self.layer = layer
        self.restarts = 0
        self.state = State.STOPPED
        self._stop_signal = stop_signal
        self._grace_seconds = grace_seconds
        self._hold: _Hold | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return self._hold.pid if self._hold and not self._hold.has_ended else None

    @property
    def started_at(self) -> float | None:
        return self._hold.started_at if self._hold and not self._hold.has_ended else None

    @property
    def is_adopted(self) -> bool:
        return self._hold is not None and self._hold.is_adopted

    def start(self) -> None:
        child = self.command.spawn()
        self._hold = _Hold(child.pid, child)
        self.state = State.STARTING

    def adopt(self, pid: int) -> None:
        """Takes over a process that somebody else started with `command`."""
        self._hold = _Hold(pid, None)
        self.state = State.STARTING

    async def end(self) -> None:
        """Returns when the present process has ended."""
        await self._running().end()

    async def wait_ready(self, seconds: float) -> None:
        """Raises a PlatformError when the process ends first, or is not ready in time."""
        hold = self._running()
        ready = asyncio.ensure_future(until(self.ready, seconds=seconds))
        ended = asyncio.ensure_future(hold.end())
        try:
            await asyncio.wait((ready, ended), return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise self._failure(f"ended while it started ({_describe(hold.exit_code)})")
            ready.result()
        except TimeoutError:
            raise self._failure(f"was not ready after {seconds:.0f} s") from None
        finally:
            ready.cancel()
            ended.cancel()
        self.state = State.RUNNING

    def keep_alive(self, report: Callable[[str], None]) -> None:
        """From now on a death is reported, and answered with a new start."""
        self._keeper = asyncio.create_task(self._revive(report), name=f"keep {self.name} alive")

    async def restart(self, report: Callable[[str], None], seconds: float) -> None:
        await self.stop()
        self.start()
        self.restarts += 1
        self.keep_alive(report)
        await self.wait_ready(seconds)

    async def stop(self) -> None:
        """Asks, waits as long as the process may take, then kills."""
        await self._dismiss_keeper()
        if self._hold and not self._hold.has_ended:
            self.state = State.STOPPING
            self._hold.send(self._stop_signal)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hold.end(), self._grace_seconds)
            self._hold.send(signal.SIGKILL)
            await self._hold.end()
        self.state = State.STOPPED

    def kill(self) -> None:
        if self._hold:
            self._hold.send(signal.SIGKILL)

    async def _revive(self, report: Callable[[str], None]) -> None:
        short_lives = 0
        while True:
            hold = self._running()
            await hold.end()
            lived = time.time() - hold.started_at
            short_lives = 0 if lived >= _LONG_LIFE_SECONDS else short_lives + 1
            pause = _backoff(short_lives)
            report(self._obituary(hold, pause))
            self.state = State.BACKING_OFF
            await asyncio.sleep(pause)
            self.start()
            self.restarts += 1
            await self._settle(report)

    async def _settle(self, report: Callable[[str], None]) -> None:
        try:
            await self.wait_ready(60)
        except PlatformError as failure:
            report(str(failure))
        else:
            report(f"{self.name} is back (pid {self.pid})")

    async def _dismiss_keeper(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait((self._keeper,))
            self._keeper = None

    def _running(self) -> _Hold:
        if self._hold is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._hold

    def _obituary(self, hold: _Hold, pause: float) -> str:
        when = f"in {pause:.0f} s" if pause else "now"
        cause = _describe(hold.exit_code)
        return f"{self.name} (pid {hold.pid}) died, {cause}; starting it again {when}"

    def _failure(self, what: str) -> PlatformError:
        log = self.command.log
        return PlatformError(
            f"{self.name} {what}. The end of {log}:\n{last_lines(log)}",
            fix="`waybill doctor` checks ports, versions, disk and memory.",
        )


def _backoff(short_lives: int) -> float:
    """None for the first death, then 1, 2, 4 … seconds."""
    return 0 if short_lives < 2 else min(_MAX_BACKOFF_SECONDS, 2.0 ** (short_lives - 2))  # noqa: PLR2004


def _describe(exit_code: int | None) -> str:
    """`None` for a process that was not our child: only its parent learns how it ended."""
    if exit_code is None:
        return "cause unknown"
    if exit_code < 0:
        return f"killed by {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"
