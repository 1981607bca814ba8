"""Downloads Dapr's released programs where they can be reached."""

import hashlib
import io
import platform
import tarfile
from pathlib import Path

import aiohttp

from waybill.progress import Stage
from waybill.runtime.go_build import CLI_VERSION

RUNTIME_VERSION = "1.18.3"
"""Newer than what can be built: a module that its source needs cannot be had."""

_RUNTIME = f"https://github.com/dapr/dapr/releases/download/v{RUNTIME_VERSION}"
_CLI = f"https://github.com/dapr/cli/releases/download/v{CLI_VERSION}"
_PROGRAMS = {
    "dapr": _CLI,
    "daprd": _RUNTIME,
    "placement": _RUNTIME,
    "scheduler": _RUNTIME,
    "sentry": _RUNTIME,
}
_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_PROBE_SECONDS = 5
_DOWNLOAD_SECONDS = 600


async def download(destination: Path, stage: Stage) -> bool:
    """Fills `destination`; False when that did not work, for whatever reason."""
    stage.detail = "looking for a prebuilt Dapr"
    if not await _reachable(_archive("dapr")):
        return False
    timeout = aiohttp.ClientTimeout(total=_DOWNLOAD_SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session:
            for program in _PROGRAMS:
                stage.detail = f"downloading Dapr {RUNTIME_VERSION}: {program}"
                content = await _verified(session, _archive(program))
                with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                    archive.extract(program, destination, filter="data")
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, tarfile.TarError):
        return False
    return True


def _archive(program: str) -> str:
    system, machine = platform.system().lower(), platform.machine().lower()
    return f"{_PROGRAMS[program]}/{program}_{system}_{_MACHINES.get(machine, machine)}.tar.gz"


async def _reachable(url: str) -> bool:
    timeout = aiohttp.ClientTimeout(total=_PROBE_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
            session.head(url, allow_redirects=True) as response,
        ):
            return response.ok
    except (aiohttp.ClientError, TimeoutError):
        return False


async def _verified(session: aiohttp.ClientSession, url: str) -> bytes:
    """Raises ValueError when the content is not what the release's checksum says."""
    async with session.get(f"{url}.sha256", raise_for_status=True) as response:
        expected = (await response.text()).split()[0]
    async with session.get(url, raise_for_status=True) as response:
        content = await response.read()
    if hashlib.sha256(content).hexdigest() != expected:
        raise ValueError(f"{url} does not match its checksum")
    return content
