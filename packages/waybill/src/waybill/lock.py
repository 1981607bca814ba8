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
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE_SECONDS)
        else:
            return
    raise PlatformError("The platform runs already.", fix="`waybill status` shows it")


def holder(project: Project) -> int | None:
    """The pid of the running supervisor."""
    path = project.state / "supervisor.pid"
    if not path.exists():
        return None
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(file.read() or 0) or None
    return None
