"""`verify`: whether the platform keeps its promises."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from waybill import project
from waybill.project import Project
from waybill.verify.invariants import Verdict, is_settled, judge, under_way
from waybill.verify.snapshot import Snapshot
from waybill.verify.sources import take_snapshot

commands = typer.Typer()
console = Console()

_SHOWN = 5


@commands.command()
def verify(
    wait: Annotated[float, typer.Option(help="Seconds to let what is under way end.")] = 30,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Check I1 to I6 across the databases, the broker, the provider and the driver's ledger.

    Exits with 0 if all hold, 1 if one is broken, 2 if one could not be checked.
    """
    verdicts = asyncio.run(settled_verdicts(project.find(), wait))
    if as_json:
        print(json.dumps([as_dict(verdict) for verdict in verdicts]))  # noqa: T201  # the output
    else:
        console.print(verdict_table(verdicts))
    if any(verdict.violations for verdict in verdicts):
        raise typer.Exit(1)
    if any(verdict.unchecked for verdict in verdicts):
        raise typer.Exit(2)


async def settled_verdicts(here: Project, wait: float) -> list[Verdict]:
    """The verdicts once everything has settled and holds, or those at the deadline."""
    deadline = asyncio.get_running_loop().time() + wait
    while True:
        snapshot = await take_snapshot(here)
        verdicts = judge(snapshot)
        good = is_settled(snapshot) and all(verdict.holds for verdict in verdicts)
        if good:
            return verdicts
        if asyncio.get_running_loop().time() > deadline:
            return [_doubted(verdict, snapshot) for verdict in verdicts]
        await asyncio.sleep(0.5)


async def broken_promises(here: Project, wait: float = 60) -> list[Verdict]:
    """The verdicts that do not hold, once everything has settled."""
    return [verdict for verdict in await settled_verdicts(here, wait) if not verdict.holds]


def _doubted(verdict: Verdict, snapshot: Snapshot) -> Verdict:
    """Nothing can be said of orders that are still under way, but that there are some."""
    if verdict.invariant.name != "I4" or not verdict.holds or not (late := under_way(snapshot)):
        return verdict
    return replace(verdict, unchecked=f"{len(late)} orders are still under way; ask again later")


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    table = Table(show_lines=False, header_style="bold")
    for heading in ("", "Invariant", "Checked", "Verdict"):
        table.add_column(heading, justify="right" if heading == "Checked" else "left")
    for verdict in verdicts:
        name, promise = verdict.invariant.name, verdict.invariant.promise
        table.add_row(name, promise, str(verdict.checked), _text(verdict))
    return table


def _text(verdict: Verdict) -> Text:
    if verdict.unchecked:
        return Text(f"unchecked: {verdict.unchecked}", style="yellow")
    if verdict.holds:
        return Text("holds", style="green")
    more = len(verdict.violations) - _SHOWN
    lines = [*verdict.violations[:_SHOWN], *([f"and {more} more"] if more > 0 else [])]
    return Text("\n".join(lines), style="bold red")


def as_dict(verdict: Verdict) -> dict[str, object]:
    return {
        "invariant": verdict.invariant.name,
        "checked": verdict.checked,
        "unchecked": verdict.unchecked,
        "violations": list(verdict.violations),
    }
