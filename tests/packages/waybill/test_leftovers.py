import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest
from waybill import leftovers
from waybill.project import Project

_FAMILY = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("up", flush=True)
time.sleep(60)
"""


@pytest.fixture
def orphan(checkout: Project) -> Iterator[subprocess.Popen[str]]:
    """A process of a platform whose supervisor is gone, with a child."""
    env = {**os.environ, **leftovers.marks(checkout)}
    argv = [sys.executable, "-c", _FAMILY]
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        yield process
        process.kill()


def test_what_a_killed_supervisor_left_is_ended_with_its_children(
    checkout: Project, orphan: subprocess.Popen[str]
) -> None:
    assert len(leftovers.find(checkout)) == 2

    assert leftovers.end(checkout) == 2

    assert not psutil.pid_exists(orphan.pid)
    assert leftovers.find(checkout) == []


@pytest.mark.usefixtures("orphan")
def test_the_platform_of_another_checkout_is_left_alone(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    assert leftovers.find(Project(tmp_path_factory.mktemp("other"))) == []
