"""Finds and ends what a supervisor that was killed has left running."""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress

import psutil

from waybill.project import Project

MARKER = "WAYBILL_STATE"
"""Environment variable of every process of a platform: whose it is."""
PART = "WAYBILL_PART"
"""Set for the infrastructure, which has to outlive the apps and their sidecars."""

_GRACE_SECONDS = 10


def marks(project: Project) -> dict[str, str]:
    return {MARKER: str(project.state)}


def find(project: Project) -> list[psutil.Process]:
    """Every process that carries the platform's mark, and their children."""
    found: dict[int, psutil.Process] = {}
    for process in _marked(project):
        found[process.pid] = process
        with suppress(psutil.Error):
            found |= {child.pid: child for child in process.children(recursive=True)}
    return [process for pid, process in found.items() if pid not in _own_line()]


def end(project: Project) -> int:
    """Stops apps and sidecars first, then the infrastructure; the number of processes ended."""
    everything = find(project)
    infrastructure = [process for process in everything if _is_infrastructure(process)]
    apps = [process for process in everything if process not in infrastructure]
    _stop(apps)
    _stop(infrastructure)
    return len(everything)


def _marked(project: Project) -> Iterator[psutil.Process]:
    mark = str(project.state)
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARKER) == mark:
                yield process


def _is_infrastructure(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return PART in process.environ()
    return False


def _own_line() -> set[int]:
    me = psutil.Process(os.getpid())
    return {me.pid, *(parent.pid for parent in me.parents())}


def _stop(processes: Sequence[psutil.Process]) -> None:
    _signal(processes, signal.SIGTERM)
    _, survivors = psutil.wait_procs(processes, timeout=_GRACE_SECONDS)
    _signal(survivors, signal.SIGKILL)
    psutil.wait_procs(survivors, timeout=_GRACE_SECONDS)


def _signal(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)
