"""Installs a Debian package without starting the service that it brings."""

import os
import shutil
import subprocess
from pathlib import Path

from waybill.errors import PlatformError
from waybill.logs import last_lines
from waybill.processes import Command, run

_INSTALL_SECONDS = 900

_SCRIPT = """\
set -e
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\\nexit 101\\n' > "$policy"
    chmod 755 "$policy"
fi
apt-get update
apt-get install --yes --no-install-recommends "$1"
if [ -d /run/systemd/system ]; then systemctl disable "$1"; fi
"""
"""policy-rc.d forbids the start at installation, `disable` the one at the next boot."""


def command(package: str) -> str:
    """What a person types."""
    return f"sudo apt-get install --no-install-recommends {package}"


def can_install() -> bool:
    """Without asking anybody for a password."""
    return shutil.which("apt-get") is not None and _become_root() is not None


async def install(package: str, root: Path, log: Path) -> None:
    """Raises a PlatformError that says what to type where we may not install."""
    fix = command(package)
    if shutil.which("apt-get") is None:
        raise PlatformError(f"{package} is missing.", fix="install it with your package manager")
    become_root = _become_root()
    if become_root is None:
        raise PlatformError(f"{package} is missing, and installing it needs root.", fix=fix)
    installation = Command(
        argv=[*become_root, "sh", "-c", _SCRIPT, "install", package],
        cwd=root,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        log=log,
    )
    if await run(installation, _INSTALL_SECONDS) != 0:
        raise PlatformError(f"Installing {package} failed:\n{last_lines(log)}", fix=fix)


def _become_root() -> list[str] | None:
    """The prefix of a command that is to run as root; None if it would ask for a password."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo is None:
        return None
    asked = subprocess.run([sudo, "-n", "true"], capture_output=True, check=False, timeout=20)  # noqa: S603  # sudo itself
    return [sudo, "-n"] if asked.returncode == 0 else None
