"""A check that is asked for often, made once at a time, and waited for so long and no longer."""

import asyncio
from collections.abc import Awaitable, Callable

from chassis.problems import Unavailable

PATIENCE_SECONDS = 2.0


class Probe:
    """Calls `check`, which raises when something is wrong; who asks meanwhile shares the answer.

    A check that hangs is left to hang: begun anew by everybody who asks, it would take up one
    connection after the other. Its own time limits end it.
    """

    def __init__(self, name: str, check: Callable[[], Awaitable[object]]) -> None:
        self._name = name
        self._check = check
        self._running: asyncio.Task[None] | None = None

    async def ask(self) -> None:
        """Raises what the check raises, or `Unavailable` when it takes too long."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run(), name=f"probe {self._name}")
            self._running.add_done_callback(_look_at)
        done, _ = await asyncio.wait([self._running], timeout=PATIENCE_SECONDS)
        if not done:
            raise Unavailable(f"The {self._name} does not answer.")
        self._running.result()

    async def _run(self) -> None:
        await self._check()


def _look_at(task: asyncio.Task[None]) -> None:
    """Or asyncio complains of an error that nobody waited for any more."""
    if not task.cancelled():
        task.exception()
