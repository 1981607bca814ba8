"""`dead-letters`: what services gave up on, and what becomes of it."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated

import aiohttp
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from waybill import project
from waybill.errors import PlatformError
from waybill.shop import Json, Person, Refused, Shop, open_shop

desk = typer.Typer(
    invoke_without_command=True, help="List, replay or discard events that services gave up on."
)
commands = typer.Typer()
commands.add_typer(desk, name="dead-letters")
console = Console()

_PAGES = 10
_PAGE_SIZE = 50
_SHOWN_OF_REASON = 160
_LETTERS_OWN = {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.SERVICE_UNAVAILABLE}

Ids = Annotated[list[str] | None, typer.Argument(help="As the list shows them.")]
Everything = Annotated[bool, typer.Option("--all", help="All that are open.")]


@desk.callback()
def dead_letters(
    context: typer.Context,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List, replay or discard events that services gave up on; without a verb, list them."""
    if context.invoked_subcommand is None:
        asyncio.run(_list(as_json=as_json))


@desk.command()
def replay(ids: Ids = None, *, everything: Everything = False) -> None:
    """Hand events to their services again, each to take effect once.

    Exits with 1 if one stays open, because it was refused again.
    """
    _decide("replay", ids or [], everything=everything)


@desk.command()
def discard(ids: Ids = None, *, everything: Everything = False) -> None:
    """Close letters, so that their events never take effect."""
    _decide("discard", ids or [], everything=everything)


async def _list(*, as_json: bool) -> None:
    async with _shop_of_staff() as (shop, staff):
        found = await open_letters(shop, staff)
    if as_json:
        print(json.dumps(found))  # noqa: T201  # the output
        return
    if found["items"]:
        console.print(_table(found["items"]))
    console.print(_summary(found))


@asynccontextmanager
async def _shop_of_staff() -> AsyncGenerator[tuple[Shop, Person]]:
    try:
        async with open_shop(project.find()) as shop:
            yield shop, await _log_in(shop)
    except aiohttp.ClientConnectionError as error:
        raise PlatformError("The platform does not answer.", fix="waybill up") from error
    except TimeoutError as error:
        raise PlatformError("The platform did not answer in time; try again.") from error


async def _log_in(shop: Shop) -> Person:
    try:
        return await shop.staff("staff")
    except Refused as refusal:
        if refusal.status == HTTPStatus.UNAUTHORIZED:
            raise PlatformError("There is no staff account yet.", fix="waybill seed") from refusal
        raise


async def open_letters(shop: Shop, staff: Person) -> Json:
    """As many as the desk shows, with the total and the services that could not be asked."""
    items: dict[str, Json] = {}  # by id: one that moves to the next page meanwhile comes once
    page: Json = {}
    for number in range(1, _PAGES + 1):
        path = f"dead-letters?page={number}&page_size={_PAGE_SIZE}"
        page = await shop.ask("GET", path, person=staff)
        items |= {item["id"]: item for item in page["items"]}
        if len(page["items"]) < _PAGE_SIZE:
            break
    return {**page, "items": list(items.values())}


def _table(letters: Sequence[Json]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("id", no_wrap=True)
    table.add_column("event")
    table.add_column("received", no_wrap=True)
    table.add_column("attempts", justify="right")
    table.add_column("reason", overflow="fold")
    for letter in letters:
        table.add_row(
            letter["id"],
            Text(letter["topic"]),
            letter["received_at"][:19].replace("T", " "),
            str(letter["attempts"]),
            Text(letter["reason"][:_SHOWN_OF_REASON]),
        )
    return table


def _summary(found: Json) -> str:
    shown, total = len(found["items"]), found["total"]
    counted = f"The newest {shown} of {total} letters." if shown < total else f"{total} letters."
    away = ", ".join(found["unreachable"])
    return f"{counted} Not reached: {away}." if away else counted


def _decide(verb: str, ids: Sequence[str], *, everything: bool) -> None:
    if bool(ids) == everything:
        raise typer.BadParameter("Name letters by their ids, or say --all.")
    if not asyncio.run(_decide_on(verb, ids)):
        raise typer.Exit(1)


async def _decide_on(verb: str, ids: Sequence[str]) -> bool:
    """Decides on these letters, or on all; true if each is closed now, and every desk was asked."""
    async with _shop_of_staff() as (shop, staff):
        if ids:
            return all([await _decide_on_one(shop, staff, verb, each) for each in ids])
        return await _decide_on_all(shop, staff, verb)


async def _decide_on_all(shop: Shop, staff: Person, verb: str) -> bool:
    """Page after page of what is open, until there is none that was not tried."""
    tried: dict[str, bool] = {}
    while True:
        found = await open_letters(shop, staff)
        fresh = [letter["id"] for letter in found["items"] if letter["id"] not in tried]
        if not fresh:
            break
        for each in fresh:
            tried[each] = await _decide_on_one(shop, staff, verb, each)
    console.print(
        _summary(found) if found["total"] or found["unreachable"] else "The desk is clear."
    )
    return all(tried.values()) and not found["unreachable"]


async def _decide_on_one(shop: Shop, staff: Person, verb: str, letter_id: str) -> bool:
    try:
        decision = await shop.ask("POST", f"dead-letters/{letter_id}/{verb}", person=staff)
    except Refused as refusal:
        if refusal.status not in _LETTERS_OWN:
            raise
        reason = str(refusal.problem.get("detail", refusal))
        console.print(Text(f"{letter_id} stays: {reason}", style="red"), soft_wrap=True)
        return False
    console.print(Text(f"{letter_id} {decision['resolution']}"), soft_wrap=True)
    return True
