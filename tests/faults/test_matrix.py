"""Every line of the matrix is a test, or stands on the list of what cannot be done here."""

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent


def lines() -> set[str]:
    return set(yaml.safe_load((HERE / "matrix.yaml").read_text()))


def covered() -> set[str]:
    marks = re.compile(r'pytest\.mark\.fault\("([a-z-]+)"\)')
    return {line for path in HERE.glob("test_*.py") for line in marks.findall(path.read_text())}


def not_here() -> dict[str, Any]:
    return yaml.safe_load((HERE / "not_here.yaml").read_text())


def test_every_line_is_tested_or_excused() -> None:
    assert covered() | set(not_here()) == lines()


def test_no_line_is_tested_and_excused() -> None:
    assert covered() & set(not_here()) == set()


def test_an_excuse_has_a_reason_and_what_shows_it() -> None:
    for line, excuse in not_here().items():
        assert set(excuse) == {"reason", "shown_by"}, line
        assert all(excuse.values()), line


def test_what_shows_it_does() -> None:
    for line, excuse in not_here().items():
        shown = subprocess.run(excuse["shown_by"], shell=True, check=False)
        assert shown.returncode == 0, line


def test_no_fault_is_skipped() -> None:
    skips = re.compile(r"mark\.(skip|skipif|xfail)|pytest\.skip")
    faulty = [p.name for p in HERE.glob("*.py") if skips.search(p.read_text())]
    assert [name for name in faulty if name != Path(__file__).name] == []
