"""`backup` and `restore`: the platform's data as one file, and back."""

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from waybill import credentials, project
from waybill.backup import restoring
from waybill.errors import PlatformError
from waybill.progress import Board, display

commands = typer.Typer()
console = Console()


@commands.command()
def backup(
    file: Annotated[
        Path | None, typer.Argument(help="By default waybill-backup-<time>.tar.gz, here.")
    ] = None,
) -> None:
    """Copy databases, the provider's records, secrets and ledger to one file; up or down."""
    from waybill.backup import taking  # noqa: PLC0415  # Valkey's client: too slow for the others

    path = (file or taking.default_path()).absolute()
    here, board = project.find(), Board()
    os.chdir(here.root)
    with _explained(), display(console, lambda: board.stages):
        taking.take(here, path, board)
    console.print(f"{path} holds everything, secrets and people's data included.", soft_wrap=True)
    console.print("Only you can read it; keep it so.")


@commands.command()
def restore(
    file: Annotated[Path, typer.Argument(help="What `waybill backup` wrote.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Put a backup in the place of all present state; the platform must be down."""
    path = file.absolute()
    here, board = project.find(), Board()
    os.chdir(here.root)
    manifest = restoring.check(here, path)
    taken_at = f"{manifest.taken_at:%Y-%m-%d %H:%M:%S} UTC"
    if restoring.holds_state(here) and not yes:
        _confirm(f"Put {here.state} aside and go back to {taken_at}?")
    with _explained(), display(console, lambda: board.stages):
        aside = restoring.restore(here, path, board)
    console.print(f"This is the state of {taken_at}. `waybill up` starts it.")
    if aside:
        console.print(f"The former state is in {aside}; `waybill clean` removes it, too.")
    if credentials.external_broker() is not None:
        console.print("The broker is not ours: purge its queues, which know of a later time.")


@contextmanager
def _explained() -> Generator[None]:
    """A full disk is no defect."""
    try:
        yield
    except OSError as error:
        raise PlatformError(f"Nothing has changed: {error}") from None


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise PlatformError("There is state here already, and nobody to ask.", fix="--yes")
    typer.confirm(question, abort=True)
