"""The `waybill` command: one Typer app, to which each module of commands adds its own."""

import sys
from typing import NoReturn

import aiohttp
import typer
from rich.console import Console
from rich.text import Text

from waybill.commands import (
    backup,
    cluster,
    dead_letters,
    demo,
    deploy,
    doctor,
    lifecycle,
    load,
    prepare,
    replay,
    verify,
)
from waybill.errors import PlatformError

app = typer.Typer(
    help="Runs Waybill on this machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(lifecycle.commands)
app.add_typer(doctor.commands)
app.add_typer(prepare.commands)
app.add_typer(demo.commands)
app.add_typer(load.commands)
app.add_typer(verify.commands)
app.add_typer(replay.commands)
app.add_typer(dead_letters.commands)
app.add_typer(backup.commands)
app.add_typer(cluster.commands, name="cluster")
app.add_typer(deploy.commands)


def main() -> None:
    """A PlatformError is for people to read; anything else is a defect and keeps its traceback."""
    try:
        app()
    except PlatformError as failure:
        _fail(failure)
    except aiohttp.ClientConnectorError as failure:
        _fail(PlatformError(f"Nothing answers at {failure.host}:{failure.port}", fix="waybill up"))


def _fail(failure: PlatformError) -> NoReturn:
    Console(stderr=True).print(Text(str(failure), style="red"), soft_wrap=True)
    sys.exit(1)
