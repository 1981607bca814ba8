"""`replay`: has a service take in events again, from the event logs of their producers."""

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import aiohttp
import typer
from pydantic import BaseModel, TypeAdapter
from rich.console import Console

from waybill import ports, project
from waybill.credentials import load
from waybill.errors import PlatformError
from waybill.progress import Board, Stage, display
from waybill.project import Project

commands = typer.Typer()
console = Console()

_SECONDS = 600  # what millions of events have told is not deleted at once
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Page(BaseModel):
    """What a service says of one page of one producer's log."""

    producer: str
    compared: int
    repaired: int
    reached: datetime | None
    more: bool


_PAGES = TypeAdapter(list[Page])


def moment(text: str) -> datetime:
    """`2026-11-21T14:00` in local time or with a zone, or how long ago: `30m`, `2h`, `7d`."""
    if age := re.fullmatch(r"(\d{1,6})([mhd])", text):
        return datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise typer.BadParameter("give a time such as 2026-11-21T14:00, or 30m, 2h, 7d") from None


@commands.command()
def replay(
    service: Annotated[str, typer.Argument(help="One that consumes events, such as dashboard.")],
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=moment, metavar="TIME", help="2026-11-21T14:00, or 30m, 2h, 7d ago; default: all"
        ),
    ] = None,
) -> None:
    """Have a service take in events again, from their producers' event logs.

    Without --since it takes in all that the logs hold (EVENT_LOG_DAYS). The rows that a read model
    (the dashboard's) has of that time are deleted and built anew; older ones stay, for no log
    could tell them again. Safe at any time, and to be interrupted: an event that is repeated
    changes nothing.
    """
    asyncio.run(_replay(project.find(), service, since))


async def _replay(here: Project, service: str, since: datetime | None) -> None:
    if service not in here.databases:
        raise PlatformError(
            f"{service} consumes no events.", fix=f"choose one of {', '.join(here.databases)}"
        )
    headers = {"dapr-api-token": load(here).app_api_token}
    timeout = aiohttp.ClientTimeout(total=_SECONDS)
    base = f"http://{ports.HOST}:{here.app(service).port}/internal/{service}/"
    board = Board()
    async with aiohttp.ClientSession(base, headers=headers, timeout=timeout) as http:
        with display(console, lambda: board.stages), board.stage(f"Replaying {service}") as stage:
            await _post(http, "replay", {"since": since and since.isoformat()})
            await _follow(http, stage)


async def _follow(http: aiohttp.ClientSession, stage: Stage) -> None:
    """Until every producer's log is read to its end."""
    compared = repaired = 0
    more = True
    while more:
        pages = _PAGES.validate_json(await _post(http, "reconcile"))
        compared += sum(page.compared for page in pages)
        repaired += sum(page.repaired for page in pages)
        stage.detail = f"{compared:,} events compared, {repaired:,} took effect{_reached(pages)}"
        more = any(page.more for page in pages)


def _reached(pages: Sequence[Page]) -> str:
    behind = [page.reached for page in pages if page.more and page.reached]
    return f", up to {min(behind).astimezone():%Y-%m-%d %H:%M:%S}" if behind else ""


async def _post(http: aiohttp.ClientSession, path: str, body: object = None) -> bytes:
    try:
        async with http.post(path, json=body) as reply:
            answer = await reply.read()
            if reply.ok:
                return answer
            raise PlatformError(f"The service answered {reply.status}: {answer.decode()[:500]}")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise PlatformError("The service does not answer.", fix="waybill status") from error
