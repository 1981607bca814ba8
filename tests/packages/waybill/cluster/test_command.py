"""`waybill cluster` beside another one, and after one that was killed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
import typer
from waybill import background, lock
from waybill.cluster import namespaces
from waybill.commands import cluster
from waybill.errors import PlatformError
from waybill.project import Project

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Puts back what a command changes for its process, and lets anybody be root."""
    monkeypatch.setenv("PATH", os.environ["PATH"])
    monkeypatch.setattr(os, "geteuid", Mock(return_value=0))
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    umask = os.umask(0o077)
    yield
    os.umask(umask)
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


@pytest.mark.parametrize(
    "command",
    [
        cluster.up,
        cluster.down,
        cluster.status,
        lambda: cluster.execute(_context("kubectl")),
        lambda: cluster.test(_context()),
    ],
)
def test_without_root_nothing_is_done_and_what_to_type_is_told(
    here: Project, monkeypatch: pytest.MonkeyPatch, command: Callable[[], None]
) -> None:
    monkeypatch.setattr(os, "geteuid", Mock(return_value=1000))
    monkeypatch.setattr(sys, "argv", ["/somewhere/waybill", "cluster", "exec", "two words"])
    with pytest.raises(PlatformError, match="needs root") as refusal:
        command()
    assert str(refusal.value).endswith("-m waybill cluster exec 'two words'")
    assert list(here.state.iterdir()) == [here.state / "etcd"]


def _context(*arguments: str) -> typer.Context:
    context = typer.Context(typer.main.get_command(cluster.commands))
    context.args = list(arguments)
    return context


@pytest.mark.usefixtures("here")
def test_programs_for_root_are_found_with_the_path_of_a_person(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/somewhere")
    cluster.down()
    first, *others = os.environ["PATH"].split(":")
    assert first == "/somewhere"
    assert {"/usr/sbin", "/sbin"} <= set(others)


def test_two_tests_keep_away_from_each_other(here: Project) -> None:
    with (
        lock.hold(Project(here.root, here.state_folder / "tester")),
        pytest.raises(PlatformError, match="`waybill cluster test` runs"),
    ):
        cluster.test(_context())
    assert (here.state / "etcd").exists()


def test_the_lock_of_a_test_outlives_its_cluster(here: Project) -> None:
    tester = Project(here.root, here.state_folder / "tester")
    with lock.hold(tester):
        cluster.down()
        assert lock.holder(tester) == os.getpid()


@pytest.mark.parametrize("number", _SIGNALS)
def test_nothing_interrupts_what_clears_away(
    here: Project, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def interrupt(*_: object) -> None:
        pytest.fail("interrupted")

    def end(_: Project) -> bool:
        os.kill(os.getpid(), number)
        return True

    signal.signal(number, interrupt)
    monkeypatch.setattr(namespaces, "end", end)
    cluster.down()
    assert not (here.state / "etcd").exists()
    assert signal.getsignal(number) == interrupt


def test_what_is_made_can_be_read_by_others_and_logs_are_of_this_run(
    here: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ensure(*_: object) -> None:
        (here.root / "made").touch()
        raise PlatformError("enough")

    here.logs.mkdir()
    here.log("kubelet").write_text("former")
    monkeypatch.setattr("waybill.cluster.programs.ensure", ensure)
    with pytest.raises(PlatformError, match="enough"):
        cluster.up()
    assert (here.root / "made").stat().st_mode & 0o777 == 0o644
    assert not here.log("kubelet").exists()
    assert (here.logs / "previous" / "kubelet.log").read_text() == "former"


@pytest.mark.usefixtures("here")
def test_a_cluster_that_has_hardly_begun_is_ended_too(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def spawn(*_: object) -> subprocess.Popen[bytes]:
        """Without the mark that the processes of a cluster bear."""
        started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        return started[0]

    async def fail(*_: object) -> None:
        raise PlatformError("interrupted")

    async def nothing(*_: object) -> None:
        pass

    monkeypatch.setattr(cluster, "_prepare", nothing)
    monkeypatch.setattr(background, "spawn", spawn)
    monkeypatch.setattr(background, "wait_ready", fail)
    with pytest.raises(PlatformError, match="interrupted"):
        cluster.up()
    assert started[0].returncode == -signal.SIGKILL
