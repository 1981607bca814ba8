"""One supervised process: its death, its return, its end."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
from waybill import processes
from waybill.errors import PlatformError
from waybill.processes import Command, State, Supervised, run, tied
from waybill.waiting import until

_SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
_DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(60)
"""
_STUBBORN = [sys.executable, "-c", _DEAF]
_TIDY = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print("tidied up", flush=True)))
other = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)
other.stdout.readline()
print("pid", other.pid, flush=True)
time.sleep(60)
"""
"""With another one that has said something, and does not end with it."""
_DEAF_TOO = _TIDY.replace('lambda *_: sys.exit(print("tidied up", flush=True))', "signal.SIG_IGN")


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


async def test_a_command_that_is_cancelled_may_tidy_up_and_leaves_none_of_its_own(
    tmp_path: Path,
) -> None:
    command = _command(tmp_path, [sys.executable, "-c", _TIDY, *_STUBBORN])
    running = asyncio.create_task(run(command, seconds=60))
    other = await _pid_in(command.log)

    running.cancel()
    await asyncio.wait((running,))

    assert running.cancelled()
    assert "tidied up" in command.log.read_text()
    await _gone(other)


async def test_a_command_that_is_cancelled_and_does_not_care_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_GRACE_SECONDS", 0.1)
    command = _command(tmp_path, [sys.executable, "-c", _DEAF_TOO, *_STUBBORN])
    running = asyncio.create_task(run(command, seconds=60))
    other = await _pid_in(command.log)

    running.cancel()
    await asyncio.wait((running,))

    await _gone(other)


async def test_a_tied_process_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    command = _command(tmp_path, [sys.executable, "-c", _TIDY, *tied(), *_STUBBORN])
    parent = command.spawn()
    other = await _pid_in(command.log)

    parent.kill()

    assert parent.wait() == -signal.SIGKILL
    await _gone(other)


async def _pid_in(log: Path) -> int:
    async def is_told() -> bool:
        return "pid " in _said(log)

    await until(is_told, seconds=10)
    return int(_said(log).partition("pid ")[2].split()[0])


def _said(log: Path) -> str:
    return log.read_text() if log.exists() else ""


async def _gone(pid: int) -> None:
    async def is_gone() -> bool:
        return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE

    await until(is_gone, seconds=10)


async def test_ctrl_c_in_the_terminal_does_not_reach_the_process(sleeper: Supervised) -> None:
    sleeper.start()

    assert sleeper.pid
    assert os.getpgid(sleeper.pid) != os.getpgid(0)
