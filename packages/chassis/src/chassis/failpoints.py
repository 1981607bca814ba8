"""Points at which tests have a process die, to see what a crash just there leaves behind."""

import os
import signal
from pathlib import Path

from chassis.settings import settings


def failpoint(name: str) -> None:
    """Kills this process if `FAILPOINTS`, a directory, holds a file `<app-id>.<name>`; once each.

    Without the setting, which only tests make, it does nothing.
    """
    if not settings().failpoints:
        return
    try:
        Path(settings().failpoints, f"{settings().app_id}.{name}").unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
