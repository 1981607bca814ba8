"""One supervised process: its death, its return, its end."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
from waybill.errors import PlatformError
from waybill.processes import Command, State, Supervised, run
from waybill.waiting import until

_SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
_DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(60)
"""
_STUBBORN = [sys.executable, "-c", _DEAF]


async def _always() -> bool:
    return True


async def _never() -> bool:
    return False


def _command(tmp_path: Path, argv: list[str], **env: str) -> Command:
    return Command(argv, tmp_path, {**os.environ, **env}, tmp_path / "process.log")


@pytest.fixture
async def sleeper(tmp_path: Path) -> AsyncIterator[Supervised]:
    process = Supervised("sleeper", _command(tmp_path, _SLEEP, MARK="kept"), _always)
    yield process
    await process.stop()


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(_SLEEP, cwd=tmp_path) as process:
        yield process
        process.kill()


async def _revived(process: Supervised) -> None:
    async def is_back() -> bool:
        return process.restarts == 1 and process.state is State.RUNNING

    await until(is_back, seconds=5)


async def test_a_killed_process_comes_back_as_it_was(sleeper: Supervised) -> None:
    reports: list[str] = []
    sleeper.start()
    await sleeper.wait_ready(5)
    sleeper.keep_alive(reports.append)
    before = psutil.Process(sleeper.pid)
    argv, directory = before.cmdline(), before.cwd()

    before.kill()
    await _revived(sleeper)

    after = psutil.Process(sleeper.pid)
    assert after.pid != before.pid
    assert (after.cmdline(), after.cwd(), after.environ()["MARK"]) == (argv, directory, "kept")
    assert f"sleeper (pid {before.pid}) died, killed by SIGKILL" in reports[0]


async def test_a_process_that_somebody_else_started_is_brought_back_too(
    sleeper: Supervised, stranger: subprocess.Popen[bytes]
) -> None:
    sleeper.adopt(stranger.pid)
    sleeper.keep_alive(lambda _: None)

    stranger.kill()

    await _revived(sleeper)

    assert sleeper.pid not in {None, stranger.pid}


async def test_a_stopped_process_stays_down(sleeper: Supervised) -> None:
    sleeper.start()
    sleeper.keep_alive(lambda _: None)

    await sleeper.stop()

    assert (sleeper.pid, sleeper.state, sleeper.restarts) == (None, State.STOPPED, 0)


async def test_a_process_that_ignores_the_request_to_stop_is_killed(tmp_path: Path) -> None:
    command = _command(tmp_path, _STUBBORN)

    async def is_deaf() -> bool:
        return "deaf" in command.log.read_text()

    process = Supervised("stubborn", command, is_deaf, grace_seconds=0.1)
    process.start()
    await process.wait_ready(5)

    await process.stop()

    assert process.pid is None


async def test_a_process_that_ends_while_it_starts_shows_the_end_of_its_log(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "print('no such column'); raise SystemExit(3)"]
    process = Supervised("doomed", _command(tmp_path, argv), _never)
    process.start()

    with pytest.raises(PlatformError, match=r"(?s)doomed ended.*exit code 3.*no such column"):
        await process.wait_ready(5)


async def test_a_process_that_is_never_ready_is_given_up_with_its_name(sleeper: Supervised) -> None:
    sleeper.ready = _never
    sleeper.start()

    with pytest.raises(PlatformError, match="sleeper was not ready after 0 s"):
        await sleeper.wait_ready(0.05)


async def test_restarting_begins_a_new_process(sleeper: Supervised) -> None:
    sleeper.start()
    before = sleeper.pid

    await sleeper.restart(lambda _: None, seconds=5)

    assert sleeper.pid not in {None, before}
    assert sleeper.state is State.RUNNING


async def test_a_command_is_not_left_behind_when_its_time_is_up(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="took more than"):
        await run(_command(tmp_path, _SLEEP), seconds=0.1)

    assert not any("time.sleep(60)" in " ".join(p.cmdline()) for p in psutil.Process().children())


async def test_ctrl_c_in_the_terminal_does_not_reach_the_process(sleeper: Supervised) -> None:
    sleeper.start()

    assert sleeper.pid
    assert os.getpgid(sleeper.pid) != os.getpgid(0)
