"""`load`: many customers at once, and what it costs to serve them."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from rich.console import Console

from waybill.commands.lifecycle import checkout
from waybill.commands.verify import as_dict, settled_verdicts, verdict_table
from waybill.load.driver import Load, Run, new_seed
from waybill.load.mix import SHOP, Arrivals
from waybill.load.report import VERSION, Report
from waybill.load.tables import tables
from waybill.progress import Board, Stage, display
from waybill.project import Project
from waybill.seed import numbered_goods
from waybill.seed import seed as seed_goods
from waybill.shop import Refused, open_shop
from waybill.verify.invariants import Verdict

commands = typer.Typer()
console = Console()

GOODS = numbered_goods(skus=100, stock=1_000_000)
VERIFY_SECONDS = 60
_NEWS_SECONDS = 0.5


class Preset(StrEnum):
    """Arrivals a second in a quiet, a busy and the peak hour; a day has all three in turn."""

    QUIET = "quiet"
    BUSY = "busy"
    PEAK = "peak"
    SHOP_DAY = "shop-day"


_RATES = {
    Preset.QUIET: (10.0,),
    Preset.BUSY: (50.0,),
    Preset.PEAK: (100.0,),
    Preset.SHOP_DAY: (10.0, 50.0, 100.0),
}


@dataclass(frozen=True)
class Result:
    reports: Sequence[Report]
    verdicts: Sequence[Verdict]

    @property
    def is_broken(self) -> bool:
        lost = any(report.lost for report in self.reports)
        return lost or any(verdict.violations for verdict in self.verdicts)

    def as_dict(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "phases": [report.as_dict() for report in self.reports],
            "verdicts": [as_dict(verdict) for verdict in self.verdicts],
        }


@commands.command()
def load(
    preset: Annotated[
        Preset, typer.Option(help="10, 50 or 100 arrivals a second, or the three in turn.")
    ] = Preset.QUIET,
    rate: Annotated[
        float | None, typer.Option(min=0.01, help="Arrivals a second, instead of a preset.")
    ] = None,
    buyers: Annotated[
        int | None, typer.Option(min=1, help="So many without a pause, instead of a preset.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help="The length of each phase.")] = 60,
    seed: Annotated[int | None, typer.Option(help="Repeats the choices of another run.")] = None,
    arrivals: Annotated[Arrivals, typer.Option(help="How they are spaced.")] = Arrivals.POISSON,
    newcomers: Annotated[
        float, typer.Option(min=0, max=1, help="The share of buyers who register first.")
    ] = SHOP.newcomers,
    in_flight: Annotated[
        int, typer.Option(min=1, help="Customers at once; more that arrive are not sent.")
    ] = 500,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Where to write it all, for programs.")
    ] = None,
) -> None:
    """Send customers to a platform that is up, then tell how it did and verify it.

    70 of 100 buy, the others look. Start the platform without limits:
    WAYBILL_RATE_LIMITS=off waybill up. Exits as `verify` does.
    """
    if rate and buyers:
        raise typer.BadParameter("choose either --rate or --buyers")
    chosen = new_seed() if seed is None else seed
    rates: Sequence[float | None] = (None,) if buyers else (rate,) if rate else _RATES[preset]
    first = Load(
        project=checkout(),
        goods=[item.sku for item in GOODS],
        rate=rates[0],
        buyers=buyers,
        seconds=seconds,
        seed=chosen,
        mix=replace(SHOP, newcomers=newcomers),
        arrivals=arrivals,
        in_flight=in_flight,
    )
    console.print(f"The seed is {chosen}: --seed {chosen} repeats all choices.", highlight=False)
    result = uvloop.run(_run([replace(first, rate=rate) for rate in rates]))
    if json_file:
        json_file.write_text(json.dumps(result.as_dict(), indent=2))
    _show(result)
    if result.is_broken:
        raise typer.Exit(1)
    if any(verdict.unchecked for verdict in result.verdicts):
        raise typer.Exit(2)


async def _run(loads: Sequence[Load]) -> Result:
    here = loads[0].project
    board = Board()
    with display(console, lambda: board.stages):
        with board.stage(f"{len(GOODS)} articles on the shelves"):
            await _stock_shelves(here)
        reports = [await _phase(load, board) for load in loads]
        with board.stage("Verifying"):
            verdicts = await settled_verdicts(here, VERIFY_SECONDS)
    return Result(reports, verdicts)


async def _stock_shelves(here: Project) -> None:
    """Not again where they are: that would begin with making the staff's accounts."""
    async with open_shop(here) as shop:
        try:
            await shop.ask("GET", f"inventory/{GOODS[-1].sku}")
        except Refused as refusal:
            if refusal.status != HTTPStatus.NOT_FOUND:
                raise
            await seed_goods(here, shop, GOODS)


async def _phase(load: Load, board: Board) -> Report:
    name = _name(load)
    with board.stage(f"{name}: {load.customers} customers register") as stage:
        async with load.running() as run:
            stage.name = name
            news = asyncio.create_task(_tell(run, stage))
            try:
                await run.ended()
            finally:
                news.cancel()
    with board.stage(f"{name}: what became of the orders"):
        return await run.report()


def _name(load: Load) -> str:
    how = f"{load.rate:g} arrivals/s" if load.rate else f"{load.buyers} buyers"
    return f"{how} for {load.seconds:g} s"


async def _tell(run: Run, stage: Stage) -> None:
    while True:
        stage.detail = (
            f"{run.accepted} orders accepted, {run.under_way} errands under way, "
            f"{run.errors} errors, {run.not_sent} not sent"
        )
        await asyncio.sleep(_NEWS_SECONDS)


def _show(result: Result) -> None:
    for report in result.reports:
        console.print()
        console.rule(_title(report), align="left")
        for table in tables(report):
            console.print(table)
            console.print()
    console.print(verdict_table(result.verdicts))


def _title(report: Report) -> str:
    rate, buyers = report.parameters["rate"], report.parameters["buyers"]
    return f"{rate:g} arrivals/s" if rate else f"{buyers} buyers"
