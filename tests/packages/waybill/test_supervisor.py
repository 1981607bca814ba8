"""The platform as a whole, with sleeping processes for its parts, asked through the socket."""

import asyncio
import fcntl
import os
import sys
import time
from collections.abc import AsyncIterator

import pytest
from waybill import control, lock
from waybill.errors import PlatformError
from waybill.processes import Command, Layer, Supervised
from waybill.project import Project
from waybill.supervisor import Phase, Supervisor

_SAY_WHEN_TOLD_TO_STOP = """
import signal, sys, time
def stop(*_):
    print(sys.argv[1], time.monotonic_ns(), flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, stop)
print("up", flush=True)
time.sleep(60)
"""


def _process(project: Project, name: str, layer: Layer) -> Supervised:
    argv = [sys.executable, "-c", _SAY_WHEN_TOLD_TO_STOP, name]
    command = Command(argv, project.root, dict(os.environ), project.log(name))

    async def is_up() -> bool:
        return "up" in command.log.read_text()

    return Supervised(name, command, is_up, layer=layer)


@pytest.fixture
async def supervisor(checkout: Project) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(report=lambda _: None)
    for name, layer in (
        ("postgres", Layer.INFRASTRUCTURE),
        ("orders-daprd", Layer.SIDECAR),
        ("orders", Layer.APP),
    ):
        await supervisor.bring_up(_process(checkout, name, layer))
    supervisor.keep_alive()
    yield supervisor
    await supervisor.stop()


@pytest.fixture
async def stop(checkout: Project, supervisor: Supervisor) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    async with control.serve(checkout, supervisor, stop):
        yield stop


async def test_apps_stop_before_their_sidecars_and_those_before_the_infrastructure(
    checkout: Project, supervisor: Supervisor
) -> None:
    await supervisor.stop()

    ends = [
        checkout.log(name).read_text().split() for name in ("orders", "orders-daprd", "postgres")
    ]
    times = [int(end[-1]) for end in ends]
    assert times == sorted(times)


@pytest.mark.usefixtures("stop")
async def test_status_tells_of_every_process(checkout: Project) -> None:
    status = await control.status(checkout)

    assert status
    assert status.phase is Phase.READY
    assert {process.name for process in status.processes} == {"postgres", "orders-daprd", "orders"}
    assert all(process.pid for process in status.processes)


@pytest.mark.usefixtures("stop")
async def test_restart_gives_one_process_a_new_pid_and_leaves_the_others(checkout: Project) -> None:
    before = await control.status(checkout)

    await control.restart(checkout, "orders")

    after = await control.status(checkout)
    assert before
    assert after
    pairs = zip(before.processes, after.processes, strict=True)
    assert [old.name for old, new in pairs if old.pid != new.pid] == ["orders"]


@pytest.mark.usefixtures("stop")
async def test_restart_of_an_unknown_name_tells_the_known_ones(checkout: Project) -> None:
    with pytest.raises(
        PlatformError, match=r"(?s)no process 'order'.*orders, orders-daprd, postgres"
    ):
        await control.restart(checkout, "order")


async def test_stop_is_passed_on(checkout: Project, stop: asyncio.Event) -> None:
    assert await control.stop(checkout)

    assert stop.is_set()


async def test_without_a_supervisor_nothing_answers(checkout: Project) -> None:
    assert await control.status(checkout) is None
    assert not await control.stop(checkout)
    with pytest.raises(PlatformError, match="waybill up"):
        await control.restart(checkout, "orders")


def test_a_second_supervisor_is_refused(checkout: Project) -> None:
    with lock.hold(checkout):
        assert lock.holder(checkout) == os.getpid()
        with pytest.raises(PlatformError, match="runs already"), lock.hold(checkout):
            pass

    assert lock.holder(checkout) is None


def test_looking_for_the_holder_does_not_stop_a_start(
    checkout: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lock.hold(checkout):
        pass
    with (checkout.state / "supervisor.pid").open() as looker:
        fcntl.flock(looker, fcntl.LOCK_SH)

        def look_away(_: float) -> None:
            looker.close()

        monkeypatch.setattr(time, "sleep", look_away)
        with lock.hold(checkout):
            assert lock.holder(checkout) == os.getpid()
