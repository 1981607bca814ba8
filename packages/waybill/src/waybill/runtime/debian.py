"""Installs Debian packages without starting the services that they bring."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from waybill.errors import PlatformError
from waybill.logs import last_lines
from waybill.processes import Command, run

_INSTALL_SECONDS = 900

_POLICY = Path("/usr/sbin/policy-rc.d")

_SCRIPT = """\
set -e
policy=$1
mark='# Of an installation by waybill, and to be removed.'
shift
exec 9< "${policy%/*}"
flock 9
if [ ! -e "$policy" ] || grep -qxF "$mark" "$policy"; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 143' HUP INT TERM
    printf '#!/bin/sh\\n%s\\nexit 101\\n' "$mark" > "$policy"
    chmod 755 "$policy"
fi
apt-get update
apt-get install --yes --no-install-recommends "$@" 9<&-
if [ -d /run/systemd/system ]; then
    dpkg --listfiles "$@" | sed -n 's|.*/systemd/system/\\([^/]*\\.service\\)$|\\1|p' |
        xargs --no-run-if-empty systemctl disable
fi
"""
"""policy-rc.d forbids the start at installation, `disable` the one at the next boot.

One that a killed installation has left is known by its mark; the lock keeps two from sharing one.
"""


def command(*packages: str) -> str:
    """What a person types."""
    return f"sudo apt-get install --no-install-recommends {' '.join(packages)}"


def can_install() -> bool:
    """Without asking anybody for a password."""
    return shutil.which("apt-get") is not None and _become_root() is not None


async def install(packages: Sequence[str], root: Path, log: Path) -> None:
    """Raises a PlatformError that says what to type where we may not install."""
    names, fix = ", ".join(packages), command(*packages)
    if shutil.which("apt-get") is None:
        raise PlatformError(f"{names}: missing.", fix="install it with your package manager")
    become_root = _become_root()
    if become_root is None:
        raise PlatformError(f"{names}: missing, and installing it needs root.", fix=fix)
    installation = Command(
        argv=[*become_root, "sh", "-c", _SCRIPT, "install", str(_POLICY), *packages],
        cwd=root,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        log=log,
    )
    if await run(installation, _INSTALL_SECONDS) != 0:
        raise PlatformError(f"Installing {names} failed:\n{last_lines(log)}", fix=fix)


def _become_root() -> list[str] | None:
    """The prefix of a command that is to run as root; None if it would ask for a password."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo is None:
        return None
    asked = subprocess.run([sudo, "-n", "true"], capture_output=True, check=False, timeout=20)  # noqa: S603  # sudo itself
    return [sudo, "-n"] if asked.returncode == 0 else None
