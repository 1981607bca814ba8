"""What is going on, as a list of stages that can be shown live, as plain lines, or sent away."""

import asyncio
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from enum import StrEnum

from pydantic import BaseModel, Field
from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

_HEARTBEAT_SECONDS = 15
"""How often a stage that still runs is mentioned where nobody watches a terminal."""


class Progress(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


class Stage(BaseModel):
    """One step with its own clock; times are seconds since the epoch, for another process."""

    name: str
    state: Progress = Progress.RUNNING
    detail: str = ""
    started_at: float = Field(default_factory=time.time)
    ended_at: float | None = None

    @property
    def seconds(self) -> float:
        return (self.ended_at or time.time()) - self.started_at

    def end(self, state: Progress) -> None:
        self.state = state
        self.ended_at = time.time()


class Board:
    """The stages so far, in the order in which they began."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []

    @contextmanager
    def stage(self, name: str) -> Generator[Stage]:
        """Done when the block ends, failed when it raises, stopped by a cancellation or Ctrl-C."""
        stage = Stage(name=name)
        self.stages.append(stage)
        try:
            yield stage
        except (asyncio.CancelledError, KeyboardInterrupt):
            stage.end(Progress.STOPPED)
            raise
        except BaseException:
            stage.end(Progress.FAILED)
            raise
        stage.end(Progress.DONE)


@contextmanager
def display(console: Console, stages: Callable[[], Sequence[Stage]]) -> Generator[None]:
    """Shows `stages()` while the block runs: a live table, or plain lines without a terminal."""
    if console.is_terminal:
        with Live(get_renderable=lambda: _table(stages()), console=console, refresh_per_second=8):
            yield
        return
    with _plain(console, stages):
        yield


_spinner = Spinner("dots", style="cyan")


def _table(stages: Sequence[Stage]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(width=1)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", style="dim")
    table.add_column(overflow="ellipsis", no_wrap=True, style="dim")
    for stage in stages:
        table.add_row(_mark(stage), stage.name, _clock(stage.seconds), Text(stage.detail))
    return table


def _mark(stage: Stage) -> Spinner | Text:
    match stage.state:
        case Progress.RUNNING:
            return _spinner
        case Progress.DONE:
            return Text("✓", style="green")
        case Progress.FAILED:
            return Text("✗", style="bold red")
        case Progress.STOPPED:
            return Text("-", style="dim")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:.0f}m {rest:02.0f}s" if minutes else f"{rest:.1f}s"


@contextmanager
def _plain(console: Console, stages: Callable[[], Sequence[Stage]]) -> Generator[None]:
    ended = threading.Event()
    lines = _Lines(console)

    def watch() -> None:
        while not ended.wait(0.25):
            lines.update(stages())

    thread = threading.Thread(target=watch, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        lines.update(stages())


class _Lines:
    """Prints each change of state once, and a sign of life of what takes long."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._states: dict[int, Progress] = {}
        self._mentioned: dict[int, float] = {}

    def update(self, stages: Sequence[Stage]) -> None:
        for position, stage in enumerate(stages):
            if self._states.get(position) != stage.state:
                self._states[position] = stage.state
                self._say(position, stage)
            elif self._is_due(position, stage):
                self._say(position, stage)

    def _is_due(self, position: int, stage: Stage) -> bool:
        last = self._mentioned[position]
        return stage.state is Progress.RUNNING and time.monotonic() - last >= _HEARTBEAT_SECONDS

    def _say(self, position: int, stage: Stage) -> None:
        self._mentioned[position] = time.monotonic()
        clock = "" if stage.seconds < 1 else f" {_clock(stage.seconds)}"
        line = f"[{stage.state}{clock}] {stage.name} {stage.detail}".rstrip()
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
