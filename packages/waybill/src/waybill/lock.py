"""At most one supervisor for a checkout: a file lock, which no crash leaves behind."""

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TextIO

from waybill.errors import PlatformError
from waybill.project import Project

_TRIES = 5
_PAUSE_SECONDS = 0.05


@contextmanager
def hold(project: Project) -> Generator[None]:
    """A PlatformError when another process holds it."""
    project.state.mkdir(parents=True, exist_ok=True)
    with (project.state / "supervisor.pid").open("a+") as file:
        _take(file)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _take(file: TextIO) -> None:
    """Whoever looks for the holder shares the lock for an instant, and is waited for."""
    for _ in range(_TRIES):
        if attempt(file):
            return
        time.sleep(_PAUSE_SECONDS)
    raise PlatformError("The platform runs already.", fix="`waybill status` shows it")


def attempt(file: TextIO, how: int = fcntl.LOCK_EX) -> bool:
    """Locks it until it is closed, unless another has; does not wait."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def holder(project: Project) -> int | None:
    """The pid of the running supervisor."""
    path = project.state / "supervisor.pid"
    if not path.exists():
        return None
    with path.open() as file:
        if attempt(file, fcntl.LOCK_SH):
            return None
        return int(file.read() or 0) or None
