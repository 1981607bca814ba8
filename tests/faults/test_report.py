"""What is kept of trials, and how many of them become one line."""

from datetime import UTC, datetime
from pathlib import Path

from faults.report import Blow, Result, keep, kept, markdown, rows


def result(seed: int, back: float | None, broken: list[str], **repairs: int) -> Result:
    blow = Blow(
        what="rabbitmq killed",
        at=datetime(2026, 1, 1, tzinfo=UTC),
        whole=5,
        back=back,
        allowed=15,
        orders=40,
        repairs=repairs,
    )
    return Result(
        test_id=f"test[run{seed}]",
        fault="broker-killed",
        seed=seed,
        orders=90,
        answers={},
        blows=[blow],
        broken=broken,
    )


def test_trials_are_read_as_they_were_kept(tmp_path: Path) -> None:
    trials = [result(1, 6, [], late=3), result(2, None, ["I1: order 7 is gone"])]
    for trial in trials:
        keep(tmp_path / "results.jsonl", trial)
    assert kept(tmp_path / "results.jsonl") == trials


def test_repeats_of_a_blow_share_a_line() -> None:
    [line] = rows([result(1, 6, [], late=3, reconciled=1), result(2, 8, [], late=4)])
    assert line[:3] == ("broker-killed", "rabbitmq killed", "2")
    assert line[4:] == ("late 7, reconciled 1", "5.0 / 5.0", "7.0 / 8.0", "holds")


def test_one_broken_trial_breaks_the_line_and_names_its_seed() -> None:
    [line] = rows([result(1, 6, []), result(2, None, ["I1: order 7 is gone"])])
    assert line[6:] == ("6.0, 1 not", "broken in 1 (seed 2): I1: order 7 is gone")
    assert "| broken in 1" in markdown([result(2, None, ["I1: order 7 is gone"])])
