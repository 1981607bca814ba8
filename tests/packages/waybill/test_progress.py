import asyncio
import io

import pytest
from rich.console import Console
from waybill.progress import Board, Progress, display


def test_without_a_terminal_each_change_is_one_plain_line() -> None:
    output = io.StringIO()
    board = Board()

    console = Console(file=output, force_terminal=False)

    with display(console, lambda: board.stages), board.stage("Valkey") as stage:
        stage.detail = "[1 of 1]"

    assert output.getvalue() == "[done] Valkey [1 of 1]\n"


def test_a_terminal_shows_every_stage() -> None:
    output = io.StringIO()
    board = Board()

    console = Console(file=output, force_terminal=True, width=80)

    with display(console, lambda: board.stages), board.stage("Valkey"):
        pass

    assert "Valkey" in output.getvalue()


@pytest.mark.parametrize(
    ("error", "state"),
    [(OSError(), Progress.FAILED), (asyncio.CancelledError(), Progress.STOPPED)],
)
def test_a_stage_ends_as_its_block_does(error: BaseException, state: Progress) -> None:
    board = Board()

    with pytest.raises(type(error)), board.stage("Valkey"):
        raise error

    assert board.stages[0].state is state
    assert board.stages[0].ended_at is not None
