"""What is built once and kept outside the checkout, for every checkout of this user."""

import os
import secrets
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from waybill.errors import PlatformError
from waybill.lock import attempt
from waybill.progress import Stage
from waybill.waiting import until

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
        for leftover in destination.parent.glob(f"{destination.name}.draft*"):
            shutil.rmtree(leftover, ignore_errors=True)
        # Another name each time: one that cannot be removed is not in the way.
        draft = destination.with_name(f"{destination.name}.draft-{secrets.token_hex(4)}")
        draft.mkdir()
        await fill(draft)
        draft.rename(destination)


@asynccontextmanager
async def alone(directory: Path, stage: Stage) -> AsyncGenerator[None]:
    """Two checkouts that start at once must not build the same thing twice."""
    directory.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240  # at once
    with (directory / "lock").open("w") as file:

        async def is_ours() -> bool:
            ours = attempt(file)
            if not ours:
                stage.detail = "waiting for another `waybill`, which is installing the same"
            return ours

        try:
            await until(is_ours, seconds=_LOCK_SECONDS, every=1)
        except TimeoutError:
            raise PlatformError(
                f"Another `waybill` has been installing the same for {_LOCK_SECONDS:.0f} s.",
                fix=f"end it (`fuser {file.name}` tells its pid) and try again",
            ) from None
        yield
