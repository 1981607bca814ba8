"""Finding Dapr, and telling how far its build is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

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


def _module(folder: Path) -> go_build.Target:
    for name in ("go.mod", "go.sum", "main.go"):
        (folder / name).write_text(name)
    return go_build.Target(folder, programs=["."], options=[], packages=1, minutes=1)


@pytest.mark.parametrize("name", ["go.mod", "go.sum", "main.go"])
def test_what_is_built_of_other_sources_is_another_build(tmp_path: Path, name: str) -> None:
    target = _module(tmp_path)
    before = go_build.fingerprint([target])

    (tmp_path / name).write_text("changed")

    assert go_build.fingerprint([target]) != before


@pytest.mark.parametrize("changed", [{"programs": ["./other"]}, {"options": ["-race"]}])
def test_other_programs_or_options_are_another_build(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    target = _module(tmp_path)

    assert go_build.fingerprint([replace(target, **changed)]) != go_build.fingerprint([target])


def test_what_is_put_beside_makes_another_build(tmp_path: Path) -> None:
    target = _module(tmp_path)

    assert go_build.fingerprint([target], "a chart") != go_build.fingerprint([target])


@pytest.mark.parametrize(
    ("lines", "minutes", "said"),
    [
        ([], 0, "checking what is compiled already"),
        (["go: downloading a v1"] * 40, 1, "40 modules downloaded, about 5 min left"),
        (["go: downloading a v1"] + ["pkg"] * 1150, 4, "1,150 of 2,300 packages, about 4 min left"),
        (["pkg"] * 2300, 8, "2,300 of 2,300 packages, about 1 min left"),
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
