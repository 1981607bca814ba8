"""What each process of the platform has cost in CPU time."""

import os
from collections.abc import Container, Mapping
from dataclasses import dataclass

import psutil

from waybill import control
from waybill.errors import PlatformError
from waybill.project import Project

DRIVER = "load driver"


@dataclass(frozen=True)
class Meter:
    """Seconds of CPU so far: of processes by name, and of the whole machine at `at` (epoch)."""

    processes: Mapping[str, tuple[int | None, float]]
    machine: float


async def read(project: Project) -> Meter:
    """Of every process that the supervisor keeps, and of this one."""
    status = await control.status(project)
    if status is None:
        raise PlatformError(
            "The platform is not running.", fix="WAYBILL_RATE_LIMITS=off waybill up"
        )
    named = {process.pid for process in status.processes}
    processes = {p.name: (p.pid, _seconds(p.pid, named)) for p in status.processes}
    own = psutil.Process().cpu_times()
    times = psutil.cpu_times()
    return Meter(
        processes | {DRIVER: (os.getpid(), own.user + own.system)},
        sum(times) - times.idle - times.iowait - times.guest - times.guest_nice,
    )


def spent(before: Meter, after: Meter) -> dict[str, float]:
    """Seconds by process; of one that was started anew meanwhile, those of its new life."""
    result: dict[str, float] = {}
    for name, (pid, seconds) in after.processes.items():
        old_pid, old = before.processes.get(name, (None, 0.0))
        result[name] = seconds - old if pid == old_pid else seconds
    return result


def _seconds(pid: int | None, named: Container[int | None]) -> float:
    """Of a process and its children, past and present, that have no line of their own.

    PostgreSQL's sessions are children: those that ended count with their parent's.
    """
    if pid is None:
        return 0
    try:
        process = psutil.Process(pid)
        family = [process, *(c for c in process.children(recursive=True) if c.pid not in named)]
    except psutil.Error:
        return 0
    return sum(map(_own_seconds, family))


def _own_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0
    return times.user + times.system + times.children_user + times.children_system
