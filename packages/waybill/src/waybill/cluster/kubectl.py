"""Talks to a cluster as a person would: by programs such as kubectl."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from waybill.errors import PlatformError

_SECONDS = 60


async def output(*argv: str, stdin: str = "", seconds: float = _SECONDS) -> str:
    """What a program prints; a PlatformError says what it complains of."""
    typed = " ".join((Path(argv[0]).name, *argv[1:]))
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds):
            printed, complaints = await process.communicate(stdin.encode())
    except TimeoutError:
        raise PlatformError(f"`{typed}` took more than {seconds:.0f} s.") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise PlatformError(f"`{typed}` failed:\n{complaints.decode().strip()}")
    return printed.decode()


@dataclass(frozen=True)
class Kubectl:
    """`options` say which cluster: a kubeconfig, a context."""

    program: str
    options: Sequence[str]

    async def run(self, *arguments: str, stdin: str = "", seconds: float = _SECONDS) -> str:
        """As `output`."""
        return await output(self.program, *self.options, *arguments, stdin=stdin, seconds=seconds)

    async def get(self, *arguments: str) -> Any:
        """The JSON of what `kubectl get` finds."""
        return json.loads(await self.run("get", *arguments, "--output", "json"))

    async def answers(self) -> bool:
        """Whether the API server is ready."""
        try:
            await self.run("get", "--raw", "/readyz", seconds=5)
        except PlatformError:
            return False
        return True
