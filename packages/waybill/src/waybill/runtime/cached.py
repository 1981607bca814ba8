"""What is built once and kept outside the checkout, for every checkout of this user."""

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from waybill.lock import attempt
from waybill.progress import Stage

_LOCK_SECONDS = 3600


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "waybill"


async def once(destination: Path, stage: Stage, fill: Callable[[Path], Awaitable[object]]) -> None:
    """Has `fill` fill a directory, which is there only once it is complete, and then stays."""
    if destination.exists():  # noqa: ASYNC240  # at once
        return
    async with alone(destination.parent, stage):
        if destination.exists():  # noqa: ASYNC240  # at once
            return
        draft = destination.with_name(f"{destination.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        await fill(draft)
        draft.rename(destination)


@asynccontextmanager
async def alone(directory: Path, stage: Stage) -> AsyncGenerator[None]:
    """Two checkouts that start at once must not build the same thing twice."""
    directory.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240  # at once
    with (directory / "lock").open("w") as file:
        async with asyncio.timeout(_LOCK_SECONDS):
            while not attempt(file):
                stage.detail = "waiting for another `waybill`, which is installing the same"
                await asyncio.sleep(1)
        yield
