"""`demo` and `seed`: the platform at work, and the goods it works with."""

import asyncio
from typing import Annotated

import typer
from rich.console import Console

from waybill import background, project
from waybill.demo import play
from waybill.project import Project
from waybill.seed import DEMO_GOODS, Goods, numbered_goods
from waybill.seed import seed as seed_goods
from waybill.shop import open_shop
from waybill.urls import urls

commands = typer.Typer()
console = Console()


@commands.command()
def demo(
    *, once: Annotated[bool, typer.Option("--once", help="Stop when the show is over.")] = False
) -> None:
    """Start the platform if it is down, follow real orders through it, and verify it."""
    asyncio.run(_demo(project.find(), once=once))


async def _demo(here: Project, *, once: bool) -> None:
    async with background.platform(here, console):
        await play(here, console)
        console.print()
        console.print(urls(here))
        if not once:
            console.print("Everything stays up for you to look at. Ctrl-C stops it.", style="dim")
            await asyncio.Event().wait()


@commands.command()
def seed(
    skus: Annotated[int, typer.Option(min=0, help="Numbered articles; 0: the demo's.")] = 0,
    stock: Annotated[int, typer.Option(min=0, help="Units of each numbered article.")] = 1_000,
) -> None:
    """List products and deliver their stock, to a platform that is up."""
    goods = numbered_goods(skus, stock) if skus else DEMO_GOODS
    asyncio.run(_seed(project.find(), goods))
    console.print(f"{len(goods)} products are listed and in stock.")


async def _seed(here: Project, goods: tuple[Goods, ...]) -> None:
    async with open_shop(here) as shop:
        await seed_goods(here, shop, goods)
