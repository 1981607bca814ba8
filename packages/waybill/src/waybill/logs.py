"""The logs of every process, in one directory, however they come to be written."""

import shutil
from pathlib import Path

from waybill.project import Project

_SUPERVISOR = "supervisor"
_TAIL_BYTES = 16_384


def last_lines(log: Path, count: int = 12) -> str:
    """The end of a log, indented."""
    if not log.exists():
        return "  (no log)"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()[-count:]
    return "\n".join(f"  {line}" for line in lines) or "  (the log is empty)"


def rotate(project: Project) -> None:
    """Puts the logs of the last run aside; those of the run before it go."""
    previous = project.logs / "previous"
    shutil.rmtree(previous, ignore_errors=True)
    previous.mkdir(parents=True)
    for log in list(project.logs.iterdir()):
        if log.stem not in (_SUPERVISOR, previous.name):
            if log.exists():
                log.resolve().rename(previous / log.name)
            log.unlink(missing_ok=True)


def show(written: Path, log: Path) -> None:
    """Makes a log that `dapr run` writes in a place of its own appear among the others."""
    log.unlink(missing_ok=True)
    log.symlink_to(written)


def take_over(log: Path) -> None:
    """Turns such a link into a file of ours, before a process that we start appends to it.

    `dapr run` goes on writing at its own offset and would overwrite our lines.
    """
    if log.is_symlink():
        draft = log.with_suffix(".draft")
        shutil.copyfile(log, draft)
        draft.replace(log)
