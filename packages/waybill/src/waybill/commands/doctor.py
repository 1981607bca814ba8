"""`doctor`: what this machine lacks, and how to get it."""

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from waybill import project
from waybill.doctor import Finding, Level, examine

commands = typer.Typer()
console = Console()

_MARKS = {Level.FINE: ("✓", "green"), Level.HINT: ("!", "yellow"), Level.BROKEN: ("✗", "bold red")}


@commands.command()
def doctor() -> None:
    """Check ports, versions, disk and memory, and name the fix for each thing that is wrong."""
    findings = examine(project.find())
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        table.add_row(Text(*_MARKS[finding.level]), finding.subject, _text(finding))
    console.print(table)
    if any(finding.level is Level.BROKEN for finding in findings):
        raise typer.Exit(1)


def _text(finding: Finding) -> Text:
    text = Text(finding.message)
    if finding.fix:
        text.append(f"\n→ {finding.fix}", style="bold")
    return text
