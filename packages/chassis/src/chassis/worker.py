"""Background work that lies in a table: done at once when woken, looked for now and then."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

log = structlog.get_logger(__name__)


class Worker:
    """Calls `step` until it returns 0, then waits for `wake` or for `poll_seconds`.

    `step` takes a bounded piece of work from its table and returns how much it did. Whatever a
    crash or an error leaves undone is still in the table and is found by the next poll.
    """

    def __init__(
        self, name: str, step: Callable[[], Awaitable[int]], *, poll_seconds: float = 2.0
    ) -> None:
        self.name = name
        self._step = step
        self._poll_seconds = poll_seconds
        self._woken = asyncio.Event()

    def wake(self) -> None:
        self._woken.set()

    async def run(self) -> None:
        while True:
            self._woken.clear()
            done = await self._attempt()
            if done is None:
                await asyncio.sleep(self._poll_seconds)  # failing work rests, however often woken
            elif done == 0:
                await self._rest()

    async def _attempt(self) -> int | None:
        try:
            return await self._step()
        except Exception:
            log.warning("worker_step_failed", worker=self.name, exc_info=True)
            return None

    async def _rest(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), self._poll_seconds)
