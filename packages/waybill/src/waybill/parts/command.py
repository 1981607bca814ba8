"""The command line of an infrastructure process, marked as this platform's."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from waybill import leftovers
from waybill.processes import Command
from waybill.project import Project


def infrastructure(
    project: Project,
    name: str,
    argv: Sequence[str],
    env: Mapping[str, str] | None = None,
    uid: int | None = None,
) -> Command:
    """Runs in the checkout; `env` comes on top of the environment of this process."""
    marks = {**leftovers.marks(project), leftovers.PART: name}
    return Command(
        argv=tuple(argv),
        cwd=project.root if uid is None else Path("/"),
        env={**os.environ, **(env or {}), **marks},
        log=project.log(name),
        uid=uid,
    )
