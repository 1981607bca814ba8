"""`waybill cluster` beside another one, and after one that was killed."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from waybill import background, lock
from waybill.cluster import namespaces
from waybill.commands import cluster
from waybill.errors import PlatformError
from waybill.project import Project


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def here(checkout: Project) -> Project:
    """A cluster that has left a file behind, or has it in use."""
    here = Project(checkout.root, namespaces.STATE)
    (here.state / "etcd").mkdir(parents=True)
    return here


def test_a_second_start_keeps_away_from_what_the_first_prepares(here: Project) -> None:
    with (
        lock.hold(Project(here.root, here.state_folder / "starter")),
        pytest.raises(PlatformError, match="Another `waybill cluster`"),
    ):
        cluster.up()
    assert (here.state / "etcd").exists()


def test_a_cluster_that_is_on_its_way_is_waited_for(
    here: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[Project] = []

    async def wait_ready(project: Project, *_: object) -> None:
        waited.append(project)

    monkeypatch.setattr(background, "wait_ready", wait_ready)
    with lock.hold(here):
        cluster.up()
    assert waited == [here]
    assert (here.state / "etcd").exists()


def test_what_a_killed_cluster_left_is_removed_but_for_logs_and_secrets(here: Project) -> None:
    for kept in (here.logs, here.secrets):
        kept.mkdir()
    cluster.down()
    assert set(here.state.iterdir()) == {here.logs, here.secrets}


def test_a_folder_of_the_machine_that_a_cluster_filled_is_told(
    here: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled, untouched, older = (tmp_path / name for name in ("filled", "untouched", "older"))
    (older / "file").mkdir(parents=True)
    monkeypatch.setattr(namespaces, "_DEFAULTS", [str(filled), str(untouched), str(older)])
    namespaces.note_untouched(here.state)
    (filled / "bin").mkdir(parents=True)
    untouched.mkdir()
    assert namespaces.remains(here) == [f"folder {filled}"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_command_in_order(
    here: Project, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    left: list[str] = []

    async def prepare(_: Project) -> None:
        try:
            os.kill(os.getpid(), number)
            await asyncio.sleep(10)
        finally:
            left.append("in order")

    monkeypatch.setattr(cluster, "_prepare", prepare)
    with pytest.raises(SystemExit) as end:
        cluster.up()
    assert end.value.code == 128 + number
    assert left == ["in order"]
