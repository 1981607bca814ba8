"""Talks to a cluster as a person would: by kubectl."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from waybill.errors import PlatformError
from waybill.processes import OUTPUT_SECONDS, output


@dataclass(frozen=True)
class Kubectl:
    """`options` say which cluster: a kubeconfig, a context."""

    program: str
    options: Sequence[str]

    async def run(self, *arguments: str, stdin: str = "", seconds: float = OUTPUT_SECONDS) -> str:
        """As `output`."""
        return await output(self.program, *self.options, *arguments, stdin=stdin, seconds=seconds)

    async def get(self, *arguments: str) -> Any:
        """The JSON of what `kubectl get` finds; None for what it was told to do without."""
        return json.loads(await self.run("get", *arguments, "--output", "json") or "null")

    async def render(self, overlay: Path) -> str:
        """Its manifests, whichever the cluster."""
        return await self.run("kustomize", str(overlay))

    async def answers(self) -> bool:
        """Whether the API server is ready."""
        try:
            await self.run("get", "--raw", "/readyz", seconds=5)
        except PlatformError:
            return False
        return True
