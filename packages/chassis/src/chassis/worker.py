"""Background work that lies in a table: done at once when woken, looked for now and then."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

import structlog

log = structlog.get_logger(__name__)

GRACE_SECONDS = 5.0


class Worker:
    """Calls `step` until it returns 0, then waits for `wake` or for `poll_seconds`.

    `step` takes a bounded piece of work from its table and returns how much it did. Whatever a
    crash or an error leaves undone is still in the table and is found by the next poll.

    It is stopped between two steps, and one that `drains` only when a step has found nothing more
    to do, or failed. A step that is `interruptible` only reads or waits, and is not waited for.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], Awaitable[int]],
        *,
        poll_seconds: float = 2.0,
        drains: bool = False,
        interruptible: bool = False,
    ) -> None:
        self.name = name
        self.interruptible = interruptible
        self._step = step
        self._poll_seconds = poll_seconds
        self._drains = drains
        self._woken = asyncio.Event()
        self._stopping = asyncio.Event()

    @property
    def is_stopping(self) -> bool:
        """For a step of many parts, which may then leave the rest for later."""
        return self._stopping.is_set()

    def wake(self) -> None:
        self._woken.set()

    def stop(self) -> None:
        """Has `run` return as soon as it may."""
        self._stopping.set()
        self.wake()

    async def run(self) -> None:
        try:
            await self._work()
            while self._drains and await self._attempt():
                pass
        finally:
            self._stopping.clear()  # so that it may run again

    async def _work(self) -> None:
        while not self.is_stopping:
            self._woken.clear()
            done = await self._attempt()
            if done is None:
                await self._rest(self._stopping)  # failing work rests, however often woken
            elif done == 0:
                await self._rest(self._woken)

    async def _attempt(self) -> int | None:
        try:
            return await self._step()
        except Exception:
            log.warning("worker_step_failed", worker=self.name, exc_info=True)
            return None

    async def _rest(self, until: asyncio.Event) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(until.wait(), self._poll_seconds)


@contextlib.asynccontextmanager
async def at_work(workers: Sequence[Worker]) -> AsyncGenerator[None]:
    """Runs the workers for the length of the block, then stops them, within `GRACE_SECONDS`."""
    tasks = {asyncio.create_task(worker.run(), name=worker.name): worker for worker in workers}
    try:
        yield
    finally:
        for task, worker in tasks.items():
            worker.stop()
            if worker.interruptible:
                task.cancel()
        await _end(list(tasks))


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=GRACE_SECONDS)
    for task in late:
        log.warning("worker_interrupted", worker=task.get_name())
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
