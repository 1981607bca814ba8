"""`verify`: whether the platform keeps its promises."""

import asyncio
import json
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from waybill import project
from waybill.project import Project
from waybill.verify.invariants import Verdict, is_settled, judge
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
    """Check I1 to I6 across the databases, the broker, the provider and the driver's ledger."""
    verdicts = asyncio.run(settled_verdicts(project.find(), wait))
    if as_json:
        print(json.dumps([_as_dict(verdict) for verdict in verdicts]))  # noqa: T201  # the output
    else:
        console.print(verdict_table(verdicts))
    if not all(verdict.holds for verdict in verdicts):
        raise typer.Exit(1)


async def settled_verdicts(here: Project, wait: float) -> list[Verdict]:
    """The verdicts once everything has settled and holds, or those at the deadline."""
    deadline = asyncio.get_running_loop().time() + wait
    while True:
        snapshot = await take_snapshot(here)
        verdicts = judge(snapshot)
        good = is_settled(snapshot) and all(verdict.holds for verdict in verdicts)
        if good or asyncio.get_running_loop().time() > deadline:
            return verdicts
        await asyncio.sleep(0.5)


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


def _as_dict(verdict: Verdict) -> dict[str, object]:
    return {
        "invariant": verdict.invariant.name,
        "checked": verdict.checked,
        "unchecked": verdict.unchecked,
        "violations": list(verdict.violations),
    }
