"""What is built once: drafts that others left, and others who do not finish."""

import fcntl
import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest
from waybill.errors import PlatformError
from waybill.progress import Stage
from waybill.runtime import cached


async def _fill(folder: Path) -> None:
    (folder / "program").touch()


async def test_what_a_killed_build_left_goes(tmp_path: Path) -> None:
    for name in ("tool.draft", "tool.draft-1234", "other.draft"):
        (tmp_path / name).mkdir()
    await cached.once(tmp_path / "tool", Stage(name="tool"), _fill)
    assert (tmp_path / "tool" / "program").exists()
    assert not any((tmp_path / name).exists() for name in ("tool.draft", "tool.draft-1234"))
    assert (tmp_path / "other.draft").exists()


async def test_a_draft_that_cannot_be_removed_is_not_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tool.draft").mkdir()
    monkeypatch.setattr(shutil, "rmtree", Mock())
    await cached.once(tmp_path / "tool", Stage(name="tool"), _fill)
    assert (tmp_path / "tool" / "program").exists()


async def test_another_who_does_not_finish_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "_LOCK_SECONDS", 0.05)
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(PlatformError, match="Another `waybill` has been installing"):
            await cached.once(tmp_path / "tool", Stage(name="tool"), _fill)
