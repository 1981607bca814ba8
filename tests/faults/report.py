"""What every trial found: kept as it happens, shown as one table. Run it to print Markdown."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from itertools import groupby
from pathlib import Path
from statistics import median

from pydantic import BaseModel
from rich.table import Table

PATH = Path(".faults/results.jsonl")
"""In the checkout, and not among the state of a platform, which is thrown away when it broke."""


class Blow(BaseModel):
    """`back` is absent when the throughput did not come back in time."""

    what: str
    at: datetime
    whole: float
    """Seconds until what was hurt was itself again."""
    back: float | None
    """Seconds from the blow until 95 % of the throughput was back."""
    allowed: float
    orders: int = 0
    """Under way at the blow, or placed before the throughput was back."""
    repairs: dict[str, int] = {}

    @property
    def in_time(self) -> bool:
        return self.back is not None and self.back <= self.allowed


class Result(BaseModel):
    test_id: str
    fault: str
    seed: int
    orders: int
    answers: dict[str, int]
    """Errors that clients met and repeated, by status."""
    blows: list[Blow]
    broken: list[str]


def keep(path: Path, result: Result) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(f"{result.model_dump_json()}\n")


def kept(path: Path) -> list[Result]:
    if not path.exists():
        return []
    return [Result.model_validate_json(line) for line in path.read_text().splitlines()]


HEADINGS = (
    "fault",
    "blow",
    "seeds",
    "orders in flight",
    "repaired by",
    "whole after s",
    "95 % back after s",
    "verdict",
)

CAPTION = (
    "In flight: orders under way at the blow or placed before the throughput was back. Repaired "
    "by: redelivered (by the broker), late (the relay sent an event more than two seconds after "
    "its commit), reconciled (fetched from the producer's log), prompted (told again by the "
    "deadline job), absorbed (repeats that an inbox took for what they are), until the next blow. "
    "Back: the start of the first four seconds with 95 % of the usual number of orders completed; "
    "0.0 is an outage too short to show in them. Of several: their number instead of the seed, "
    "sums of repairs, median / worst of figures."
)


def rows(results: Iterable[Result]) -> list[tuple[str, ...]]:
    blows: defaultdict[tuple[str, str], list[tuple[Result, Blow]]] = defaultdict(list)
    for result in results:
        for blow in result.blows:
            blows[result.fault, blow.what].append((result, blow))
    return [_row(*key, pairs) for key, pairs in blows.items()]


def _row(fault: str, what: str, pairs: Sequence[tuple[Result, Blow]]) -> tuple[str, ...]:
    blows = [blow for _, blow in pairs]
    back = [blow.back for blow in blows if blow.back is not None]
    never = len(blows) - len(back)
    return (
        fault,
        what,
        _seeds({result.seed for result, _ in pairs}),
        _spread([blow.orders for blow in blows], ".0f"),
        _repairs(blows),
        _spread([blow.whole for blow in blows]),
        _spread(back) + (f", {never} not" if never else ""),
        _verdict([result for result, _ in pairs]),
    )


def _seeds(seeds: Collection[int]) -> str:
    return str(len(seeds)) if len(seeds) > 1 else " ".join(map(str, seeds))


def _repairs(blows: Sequence[Blow]) -> str:
    counts: Counter[str] = Counter()
    for blow in blows:
        counts.update(blow.repairs)
    return ", ".join(f"{what} {count}" for what, count in sorted(counts.items()) if count) or "-"


def _spread(figures: Sequence[float], style: str = ".1f") -> str:
    if not figures:
        return "-"
    if len(figures) == 1:
        return f"{figures[0]:{style}}"
    return f"{median(figures):{style}} / {max(figures):{style}}"


def _verdict(results: Sequence[Result]) -> str:
    broken = [result for result in results if result.broken]
    if not broken:
        return "holds"
    return f"broken in {len(broken)} (seed {broken[0].seed}): {broken[0].broken[0][:160]}"


def table(results: Iterable[Result]) -> Table:
    shown = Table(title="What the platform survived", caption=CAPTION, header_style="bold")
    for heading in HEADINGS:
        right = heading not in {"fault", "blow", "repaired by", "verdict"}
        shown.add_column(heading, justify="right" if right else "left", overflow="fold")
    for _, lines in groupby(rows(results), key=lambda row: row[0]):
        for line in lines:
            shown.add_row(*line)
        shown.add_section()
    return shown


def markdown(results: Iterable[Result]) -> str:
    lines = [HEADINGS, ("---",) * len(HEADINGS), *rows(results)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{CAPTION}"


if __name__ == "__main__":
    print(markdown(kept(PATH)))  # noqa: T201  # the output
