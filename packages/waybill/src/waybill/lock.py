"""At most one supervisor for a checkout: a file lock, which no crash leaves behind."""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager

from waybill.errors import PlatformError
from waybill.project import Project


@contextmanager
def hold(project: Project) -> Generator[None]:
    """A PlatformError when another process holds it."""
    project.state.mkdir(parents=True, exist_ok=True)
    with (project.state / "supervisor.pid").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PlatformError(
                "The platform runs already.", fix="`waybill status` shows it"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


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
