"""Talks to a cluster as a person would: by kubectl."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from waybill.errors import PlatformError

_SECONDS = 60


@dataclass(frozen=True)
class Kubectl:
    """`options` say which cluster: a kubeconfig, a context."""

    program: str
    options: Sequence[str]

    async def run(self, *arguments: str, stdin: str = "", seconds: float = _SECONDS) -> str:
        """What it prints; a PlatformError says what it complains of."""
        process = await asyncio.create_subprocess_exec(
            self.program,
            *self.options,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(seconds):
                output, complaints = await process.communicate(stdin.encode())
        except TimeoutError:
            process.kill()
            await process.wait()
            raise PlatformError(
                f"`kubectl {' '.join(arguments)}` took more than {seconds:.0f} s."
            ) from None
        if process.returncode:
            raise PlatformError(
                f"`kubectl {' '.join(arguments)}` failed:\n{complaints.decode().strip()}"
            )
        return output.decode()

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
