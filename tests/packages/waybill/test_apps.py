"""What is known of the children of `dapr run`, which starts one app after the other."""

import os
import subprocess
import sys

import psutil
import pytest
from waybill.parts import apps
from waybill.project import Project


@pytest.mark.parametrize(
    ("missing", "dead"),
    [
        ([], None),
        (["orders-daprd", "orders", "inventory-daprd", "inventory"], None),
        (["orders-daprd", "inventory-daprd", "inventory"], None),
        (["orders-daprd", "inventory"], "orders-daprd"),
        (["orders"], "orders"),
    ],
)
def test_an_app_is_dead_once_a_later_one_runs(
    checkout: Project, missing: list[str], dead: str | None
) -> None:
    later = ["gateway-daprd", "gateway"]

    assert apps.passed_over(checkout, missing if dead else [*missing, *later]) == dead


def test_an_app_is_started_again_with_what_it_was_started_with(checkout: Project) -> None:
    argv = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    env = {**os.environ, "APP_ID": "orders", "APP_API_TOKEN": "secret"}
    with subprocess.Popen(argv, env=env, cwd=checkout.logs, stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()  # for a moment after exec, a process has no command line
        process = apps.supervised(checkout, "orders", psutil.Process(child.pid))
        child.kill()

    assert process.command.argv == argv
    assert process.command.cwd == checkout.logs
    assert process.command.env == env
    assert process.ports == [28001]
