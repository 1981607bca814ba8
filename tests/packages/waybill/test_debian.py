"""What an installation leaves behind, however it ends. A script stands in for apt-get."""

import asyncio
from pathlib import Path
from unittest.mock import Mock

import pytest
from waybill.errors import PlatformError
from waybill.runtime import debian
from waybill.waiting import until

_APT_GET = """\
#!/bin/sh
cd {folder}
[ "$1" = install ] || exit 0
cp policy-rc.d seen
[ ! -e slow ] || sleep 60
[ ! -e failing ] || exit 100
"""
_THEIRS = "#!/bin/sh\nexit 0\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    apt_get = tmp_path / "apt-get"
    apt_get.write_text(_APT_GET.format(folder=tmp_path))
    apt_get.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(debian, "_POLICY", tmp_path / "policy-rc.d")
    monkeypatch.setattr(debian, "_become_root", Mock(return_value=[]))
    return tmp_path


async def _install(folder: Path) -> None:
    await debian.install(["waybill-test"], folder, folder / "apt.log")


async def test_no_service_is_started_by_an_installation_but_by_others(folder: Path) -> None:
    await _install(folder)
    assert "exit 101" in (folder / "seen").read_text()
    assert not (folder / "policy-rc.d").exists()


async def test_an_installation_that_fails_leaves_nothing(folder: Path) -> None:
    (folder / "failing").touch()
    with pytest.raises(PlatformError, match="Installing waybill-test failed"):
        await _install(folder)
    assert not (folder / "policy-rc.d").exists()


async def test_an_installation_that_is_cancelled_leaves_nothing(folder: Path) -> None:
    (folder / "slow").touch()
    installing = asyncio.create_task(_install(folder))

    async def is_on_its_way() -> bool:
        return (folder / "seen").exists()

    await until(is_on_its_way, seconds=10)
    installing.cancel()
    await asyncio.wait((installing,))
    assert installing.cancelled()
    assert not (folder / "policy-rc.d").exists()


async def test_what_a_killed_installation_left_goes_with_the_next_one(folder: Path) -> None:
    await _install(folder)
    (folder / "seen").rename(folder / "policy-rc.d")
    await _install(folder)
    assert not (folder / "policy-rc.d").exists()


async def test_the_policy_of_the_machine_stays(folder: Path) -> None:
    (folder / "policy-rc.d").write_text(_THEIRS)
    await _install(folder)
    assert (folder / "policy-rc.d").read_text() == _THEIRS
