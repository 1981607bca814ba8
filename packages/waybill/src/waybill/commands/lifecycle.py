"""`up`, `down`, `status`, `restart` and `clean`."""

import asyncio
import os
import shutil
import time
from collections.abc import Container, Sequence
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.table import Table

from waybill import background, control, lock, project
from waybill.cluster import namespaces
from waybill.parts import unprivileged
from waybill.processes import State
from waybill.project import Project
from waybill.supervisor import ProcessStatus
from waybill.urls import urls

commands = typer.Typer()
console = Console()

_MEBIBYTE = 2**20
_NONE = "-"
_COLOURS = {State.RUNNING: "green", State.BACKING_OFF: "red", State.STOPPED: "red"}


@commands.command()
def up(
    *,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when everything is ready.")
    ] = False,
    lifeline: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Start everything: infrastructure, services and their sidecars."""
    here = checkout()
    if pid := lock.holder(here):
        console.print(f"The platform runs already (supervisor {pid}); `waybill status` shows it.")
        return
    here.logs.mkdir(parents=True, exist_ok=True)
    if detach:
        asyncio.run(background.start(here, console))
        console.print(urls(here))
        return
    from waybill import session, startup  # noqa: PLC0415  # every part of the platform: too slow for the others

    raise typer.Exit(asyncio.run(session.run(here, console, startup.start, lifeline)))


@commands.command()
def down() -> None:
    """Stop everything, also what a supervisor that was killed left behind."""
    if not asyncio.run(background.stop(checkout(), console)):
        console.print("Nothing is running.")


@commands.command()
def status() -> None:
    """Show every process, and where to look."""
    here = checkout()
    answer = asyncio.run(control.status(here))
    if answer is None:
        console.print("Nothing is running. `waybill up` starts it.")
        raise typer.Exit(1)
    console.print(_table(answer.processes))
    console.print(urls(here))
    console.print(f"The platform is [bold]{answer.phase}[/bold]. Logs lie in {here.logs}.")


@commands.command()
def restart(name: Annotated[str, typer.Argument(help="As `waybill status` shows it.")]) -> None:
    """Stop one process and start it again, as it was, on its own ports."""
    asyncio.run(control.restart(checkout(), name))
    console.print(f"{name} is ready again.")


@commands.command()
def clean() -> None:
    """Stop everything and remove all of its state, data and secrets included."""
    here = checkout()
    asyncio.run(background.stop(here, console))
    namespaces.end(Project(here.root, namespaces.STATE))
    remove_state(here)


def remove_state(here: Project) -> None:
    """Of a platform that is down."""
    for state in (here.state, *here.former_states):
        unprivileged.remove_state(state)
    shutil.rmtree(here.dapr_logs, ignore_errors=True)


def checkout() -> Project:
    """Commands run in its root, so that paths relative to it hold, those in YAML included."""
    here = project.find()
    os.chdir(here.root)
    return here


def _table(processes: Sequence[ProcessStatus]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for heading in ("process", "state"):
        table.add_column(heading)
    for heading in ("pid", "port", "up", "restarts", "MiB"):
        table.add_column(heading, justify="right")
    named = {process.pid for process in processes}
    for process in processes:
        colour = _COLOURS.get(process.state, "yellow")
        table.add_row(
            process.name,
            f"[{colour}]{process.state}[/{colour}]",
            str(process.pid or _NONE),
            str(process.ports[0]) if process.ports else _NONE,
            _uptime(process.started_at),
            str(process.restarts),
            f"{_memory(process.pid, named) / _MEBIBYTE:.0f}" if process.pid else _NONE,
        )
    return table


def _uptime(started_at: float | None) -> str:
    if started_at is None:
        return _NONE
    minutes, seconds = divmod(int(time.time() - started_at), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def _memory(pid: int, named: Container[int | None]) -> int:
    """Of a process and its children that have no line of their own; shared pages count once."""
    try:
        process = psutil.Process(pid)
        children = (c for c in process.children(recursive=True) if c.pid not in named)
        return sum(member.memory_full_info().pss for member in (process, *children))
    except psutil.Error:
        return 0
