"""One Dockerfile: every service gets its own packages only, and no more power than it needs."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text()


def test_it_needs_no_other_image_than_python(dockerfile: str) -> None:
    bases = re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    assert set(bases) == {"${PYTHON}"}
    assert re.search(r"^ARG PYTHON=python:\d+\.\d+-[\w.-]+$", dockerfile, re.MULTILINE)
    assert not re.search(r"^#\s*syntax=", dockerfile, re.MULTILINE)  # it would be fetched


def test_what_it_installs_is_locked(dockerfile: str) -> None:
    assert re.search(r"^ARG UV_VERSION=\d+\.\d+\.\d+$", dockerfile, re.MULTILINE)
    (install,) = re.findall(r"uv sync .*", dockerfile)
    for option in ("--locked", "--no-dev", '--package "${SERVICE}"'):
        assert option in install


def test_it_runs_as_nobody_in_particular(dockerfile: str) -> None:
    final = dockerfile.rpartition("FROM ")[2]
    assert re.search(r"^USER (?!0)\d+:\d+$", final, re.MULTILINE)  # a number, for runAsNonRoot
    assert re.search(r"^CMD \[", final, re.MULTILINE)  # no shell between us and SIGTERM
    assert "RUN" not in final


def test_every_member_of_the_workspace_reaches_the_build() -> None:
    allowed = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    workspace = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["workspace"]
    members = {member.partition("/")[0] for member in workspace["members"]}
    assert allowed == members | {"pyproject.toml", "uv.lock"}
