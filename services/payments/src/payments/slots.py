"""Runs claimed work side by side, so that one slow call holds up no other."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import structlog

log = structlog.get_logger(__name__)

Job: TypeAlias = Callable[[], Awaitable[None]]
Claim: TypeAlias = Callable[[int], Awaitable[Sequence[Job]]]

GRACE_SECONDS = 5.0


class Slots:
    """At most `limit` jobs at a time; `claim` takes up to as many as it is told from a table."""

    def __init__(self, limit: int, claim: Claim) -> None:
        self._limit = limit
        self._claim = claim
        self._running: set[asyncio.Task[None]] = set()

    async def fill(self) -> int:
        """Starts what there is to do once a slot is free; returns how much it started."""
        if len(self._running) == self._limit:
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
        jobs = await self._claim(self._limit - len(self._running))
        for job in jobs:
            task = asyncio.create_task(_attempt(job))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return len(jobs)

    async def finish(self) -> None:
        """Lets calls that are under way end; those that do not in time are made again later."""
        if not self._running:
            return
        _, late = await asyncio.wait(self._running, timeout=GRACE_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


async def _attempt(job: Job) -> None:
    try:
        await job()
    except Exception:
        log.warning("job_failed", exc_info=True)
