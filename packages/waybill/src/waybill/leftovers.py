"""Finds and ends what a supervisor that was killed has left running."""

import os
import signal
from collections.abc import Sequence
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
    marked = _marked(project)
    return [*marked, *_children(marked)]


def end(project: Project) -> int:
    """Stops apps and sidecars first, then the infrastructure; the number of processes ended."""
    marked = _marked(project)
    children = _children(marked)
    infrastructure = [process for process in marked if _is_infrastructure(process)]
    _stop([process for process in marked if process not in infrastructure])
    _stop(infrastructure)
    _stop(children)  # as a rule they went with their parents
    return len(marked)


def _marked(project: Project) -> list[psutil.Process]:
    mark, own_line = str(project.state), _own_line()
    return [
        process
        for process in psutil.process_iter()
        if process.pid not in own_line and _environ(process).get(MARKER) == mark
    ]


def _children(marked: list[psutil.Process]) -> list[psutil.Process]:
    """They may have no environment to show: PostgreSQL writes its titles over it."""
    found: set[psutil.Process] = set()
    for process in marked:
        with suppress(psutil.Error):
            found |= set(process.children(recursive=True))
    return list(found.difference(marked))


def _environ(process: psutil.Process) -> dict[str, str]:
    """Empty for a process that is gone or another user's."""
    with suppress(psutil.Error):
        return process.environ()
    return {}


def _is_infrastructure(process: psutil.Process) -> bool:
    return PART in _environ(process)


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
