"""What a cluster leaves on the machine, and what runs inside beside it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from waybill.cluster import namespaces
from waybill.project import Project
from waybill.waiting import until

_NEW = ("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--")


def _is_allowed() -> bool:
    answer = (
        subprocess.run([*_NEW, "true"], check=False, capture_output=True)
        if shutil.which("unshare")
        else None
    )
    return answer is not None and answer.returncode == 0


_needs_namespaces = pytest.mark.skipif(not _is_allowed(), reason="needs root, and namespaces")


@pytest.fixture
def here(checkout: Project) -> Project:
    here = Project(checkout.root, namespaces.STATE)
    here.state.mkdir(parents=True)
    return here


@pytest.fixture
def cgroup(here: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders in its place; a file keeps one from being removed."""
    (tmp_path / "cgroups").mkdir()
    (tmp_path / "cgroups" / "cgroup.controllers").touch()
    monkeypatch.setattr(namespaces, "_CGROUPS", tmp_path / "cgroups")
    pod = tmp_path / "cgroups" / namespaces.cgroup(here) / "pod"
    pod.mkdir(parents=True)
    return pod


def test_a_cgroup_that_is_busy_is_tried_again(
    here: Project, cgroup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cgroup / "busy").touch()

    def pause(_: float) -> None:
        (cgroup / "busy").unlink()

    monkeypatch.setattr(time, "sleep", pause)
    namespaces.end(here)
    assert not cgroup.parent.exists()


def test_a_cgroup_that_stays_busy_is_told(
    here: Project, cgroup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cgroup / "busy").touch()
    monkeypatch.setattr(namespaces, "_CGROUPS_SECONDS", 0.01)
    namespaces.end(here)
    assert namespaces.remains(here) == [f"cgroup {cgroup.parent}"]


def test_a_mount_is_told_whatever_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Project(tmp_path / "my checkout", namespaces.STATE)
    written = str(here.state).replace(" ", r"\040")
    (tmp_path / "mounts").write_text(f"tmpfs {written}/kubelet tmpfs rw 0 0\n/ / ext4 rw 0 0\n")
    monkeypatch.setattr(namespaces, "_MOUNTS", tmp_path / "mounts")
    assert namespaces.remains(here) == [f"mount {here.state}/kubelet"]


def test_what_a_person_does_with_a_kubectl_meanwhile_is_none_of_its_business(
    here: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    namespaces.note_untouched(here.state)
    (tmp_path / "home" / ".kube" / "cache").mkdir(parents=True)
    assert namespaces.remains(here) == []
    monkeypatch.setenv("HOME", str(tmp_path / "another"))
    assert namespaces.remains(here) == []


_LAST = """\
import os, signal, subprocess, sys
from pathlib import Path
from waybill.cluster import namespaces
from waybill.project import Project

here = Project(Path(sys.argv[1]))
namespaces._CGROUPS = Path(sys.argv[2])
subprocess.run(["mount", "--bind", here.root / namespaces.STATE, here.state], check=True)
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", here.state / "kubelet"], check=True)
child = os.fork()
if not child:
    subprocess.Popen(["sleep", "60"])  # an orphan that holds the mount
    subprocess.Popen(["sleep", "60"], cwd=here.state / "kubelet", start_new_session=True)
    os._exit(3)
code = namespaces.reap_until_exit(child)
namespaces.dissolve(here)
others = [name for name in os.listdir("/proc") if name.isdigit() and name != "1"]
print(code, others, (here.state / "logs").exists(), os.listdir(here.root / namespaces.STATE))
"""


@_needs_namespaces
def test_a_cluster_that_nobody_ends_takes_back_what_it_can(here: Project, cgroup: Path) -> None:
    (here.state / "kubelet").mkdir()
    argv = [*_NEW, sys.executable, "-c", _LAST, str(here.root), str(cgroup.parents[1])]
    answer = subprocess.run(argv, check=True, capture_output=True, text=True)
    assert answer.stdout == "3 [] True ['kubelet']\n"
    assert not cgroup.parent.exists()


def test_outside_of_a_cluster_nothing_is_ended_so(
    here: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: object) -> None:
        pytest.fail("this would have been the end")

    monkeypatch.setattr(os, "kill", kill)
    with pytest.raises(RuntimeError):
        namespaces.dissolve(here)


_INSIDE = """\
import signal, sys, time
from pathlib import Path

signal.signal(signal.SIGTERM, signal.SIG_IGN)
try:
    Path("inside").touch()
    time.sleep(60)
except KeyboardInterrupt:
    Path("in order").touch()
    sys.exit(5)
"""


@pytest.fixture
def command(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One that runs in the namespaces of a process."""
    argv = [*namespaces.join(os.getpid(), tmp_path), sys.executable, "-c", _INSIDE]
    with subprocess.Popen(argv, start_new_session=True) as command:
        yield command
        command.kill()


@pytest.fixture
async def inside(command: subprocess.Popen[bytes], tmp_path: Path) -> psutil.Process:
    """What it runs there."""

    async def is_inside() -> bool:
        return (tmp_path / "inside").exists()

    await until(is_inside, seconds=10)
    [process] = psutil.Process(command.pid).children()
    return process


@_needs_namespaces
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_what_runs_inside_ends_with_its_command(
    command: subprocess.Popen[bytes], inside: psutil.Process, number: signal.Signals
) -> None:
    command.send_signal(number)
    assert command.wait() == -number
    inside.wait(timeout=10)


@_needs_namespaces
@pytest.mark.usefixtures("inside")
async def test_what_runs_inside_answers_ctrl_c_by_itself(
    command: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    os.killpg(command.pid, signal.SIGINT)
    assert command.wait() == 5
    assert (tmp_path / "in order").exists()
