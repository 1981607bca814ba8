"""Finding Dapr, and telling how far its build is."""

from pathlib import Path

import pytest
from waybill.runtime import go_build, install

_PROGRAMS = ("daprd", "placement", "scheduler", "sentry", "dapr")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("DAPR_RUNTIME_PATH", raising=False)
    return tmp_path


def _install(home: Path, version: str, *programs: str) -> Path:
    directory = home / ".dapr" / "bin"
    directory.mkdir(parents=True)
    for program in programs:
        (directory / program).write_text(f"#!/bin/sh\necho {version}\n")
        (directory / program).chmod(0o755)
    return directory


def test_an_installation_of_a_fitting_version_is_used(home: Path) -> None:
    programs = _install(home, "1.18.7", *_PROGRAMS)

    runtime = install.find()

    assert runtime == install.DaprRuntime("1.18.7", programs, programs / "dapr")


def test_an_installation_of_another_version_is_not_used(home: Path) -> None:
    _install(home, "1.17.2", *_PROGRAMS)

    assert install.find() is None


def test_an_incomplete_installation_is_not_used(home: Path) -> None:
    _install(home, "1.18.7", "daprd", "dapr")

    assert install.find() is None


def test_a_runtime_path_that_was_chosen_comes_first(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(home, "1.18.1", *_PROGRAMS)
    chosen = _install(home / "chosen", "1.18.2", *_PROGRAMS)
    monkeypatch.setenv("DAPR_RUNTIME_PATH", str(home / "chosen"))

    runtime = install.find()

    assert runtime
    assert runtime.programs == chosen


def test_the_versions_to_build_are_those_that_the_modules_pin() -> None:
    assert go_build.RUNTIME_VERSION.startswith(install.SERIES)
    assert go_build.pinned(go_build.CLI, "github.com/dapr/cli") == go_build.CLI_VERSION


@pytest.mark.parametrize(
    ("lines", "minutes", "said"),
    [
        ([], 0, "checking what is compiled already"),
        (["go: downloading a v1"] * 40, 1, "40 modules downloaded, about 7 min left"),
        (["go: downloading a v1"] + ["pkg"] * 811, 2, "811 of 3,245 packages, about 6 min left"),
        (["pkg"] * 3245, 8, "3,245 of 3,245 packages, about 1 min left"),
    ],
)
def test_the_time_left_is_estimated_from_the_packages_compiled(
    lines: list[str], minutes: float, said: str
) -> None:
    target = go_build.TARGETS[0]

    assert go_build.estimate(lines, target, elapsed=minutes * 60) == said


def test_go_has_a_place_for_its_caches_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")

    assert Path(go_build.environment()["HOME"]).is_dir()
