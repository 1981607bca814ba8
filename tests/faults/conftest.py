"""Trials, and their table.

They kill what they find, so they run only when this directory is asked for by name.
"""

import re
from collections import Counter
from collections.abc import AsyncIterator, Generator
from math import ceil
from pathlib import Path
from secrets import randbits
from tempfile import TemporaryDirectory

import pytest
from faults import report
from faults.broker import open_broker
from faults.subject import RATE, Platform
from faults.trial import Trial
from rich.console import Console
from waybill import project
from waybill.shop import open_shop

_FAILURE = pytest.StashKey[str]()
"""What a test itself complains of, if anything; absent until it has ended."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--repeats", type=int, default=1, help="Run each line so often, or oftener.")
    group.addoption("--rate", type=float, default=RATE, help="Orders a second.")
    group.addoption("--seed", type=int, help="Replay: the seed that a run printed.")
    group.addoption("--resume", action="store_true", help="Leave out what has passed already.")
    group.addoption("--soak-minutes", type=float, default=60, help="How long random faults last.")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "run" in metafunc.fixturenames:
        repeats = 1 if _is_once(metafunc.definition) else _repeats(metafunc.config)
        metafunc.parametrize("run", range(repeats), ids=[f"run{n}" for n in range(repeats)])


@pytest.hookimpl(tryfirst=True)  # all tests of a line are counted, those that are not asked for too
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    done = _done() if config.getoption("--resume", default=False) else set[str]()
    trials = [item for item in items if item.get_closest_marker("fault")]
    repeats = _repeats(config)
    tests = Counter(_line_of(item) for item in trials if _run_of(item) == 0 and not _is_once(item))
    left_out = [
        item
        for item in trials
        if not _asked(config)
        or item.nodeid in done
        or (not _is_once(item) and _run_of(item) >= ceil(repeats / tests[_line_of(item)]))
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    items.sort(key=_run_of)  # every fault once before any comes again


def _asked(config: pytest.Config) -> bool:
    return any("tests/faults" in argument for argument in config.args)


def _repeats(config: pytest.Config) -> int:
    return int(config.getoption("--repeats", None) or 1)


def _is_once(item: pytest.Item) -> bool:
    return item.get_closest_marker("once") is not None


def _line_of(item: pytest.Item) -> str:
    """Of the matrix. Its tests share the repeats."""
    marker = item.get_closest_marker("fault")
    assert marker
    return marker.args[0]


def _run_of(item: pytest.Item) -> int:
    number = re.search(r"\brun(\d+)", item.name)
    return int(number[1]) if number else 0


def _results() -> Path:
    return project.find().root / report.PATH


def _done() -> set[str]:
    return {result.test_id for result in report.kept(_results()) if not result.broken}


@pytest.fixture(scope="session")
async def hurt_platform(request: pytest.FixtureRequest) -> AsyncIterator[Platform]:
    if not request.config.getoption("--resume"):
        _results().unlink(missing_ok=True)
    rate = float(request.config.getoption("--rate") or RATE)
    with TemporaryDirectory(prefix="waybill-faults-", ignore_cleanup_errors=True) as scratch:
        platform = Platform(project.find(), Path(scratch), rate)
        try:
            await platform.start()
            yield platform
        finally:
            await platform.stop()


@pytest.fixture
async def trial(
    request: pytest.FixtureRequest, hurt_platform: Platform, run: int
) -> AsyncIterator[Trial]:
    given: int | None = request.config.getoption("--seed")
    seed = randbits(32) if given is None else given
    if not hurt_platform.is_sound:
        await hurt_platform.make_anew()
    print(f"--seed {seed}")  # noqa: T201  # replays the trial
    async with (
        open_shop(hurt_platform.project) as shop,
        open_broker(hurt_platform.project) as rabbit,
    ):
        trial = Trial(hurt_platform, shop, rabbit, seed)
        yield trial
    failure = request.node.stash.get(_FAILURE, None)
    if failure is None:
        return  # it was interrupted, and has found nothing
    if failure and not trial.broken:
        trial.broken.append(failure)
    result = report.Result(
        test_id=request.node.nodeid,
        fault=_line_of(request.node),
        seed=seed,
        orders=trial.orders,
        answers=dict(trial.answers),
        blows=trial.blows,
        broken=trial.broken,
    )
    report.keep(_results(), result)
    hurt_platform.is_sound = not trial.broken


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test itself asserts belongs to the verdict, too."""
    outcome = yield
    if call.when == "call":
        error = call.excinfo
        item.stash[_FAILURE] = f"{error.typename}: {error.value}"[:300] if error else ""
    return outcome


def pytest_terminal_summary(config: pytest.Config) -> None:
    results = report.kept(_results())
    if results and _asked(config):
        Console(width=180).print(report.table(results))
