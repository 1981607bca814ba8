"""Pushes a fresh snapshot to every open page when the read model has changed.

The signal is the database's: whichever replica consumed the events sends it, and all of them hear
it. It says only that something changed; each replica then reads the model once for all its pages.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NoReturn

from chassis.database import database
from chassis.problems import Unavailable
from chassis.worker import Worker
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from dashboard.snapshot import take_snapshot
from dashboard.store import CHANGES

MOST_VIEWERS = 200
SHORTEST_PAUSE_SECONDS = 0.25
_PAUSE_PER_READING = 4  # so at most a fifth of the time is spent on reading
_REFRESH_SECONDS = 2.0  # without a change: the counted periods move on, and silence means trouble
_PROBE_SECONDS = 15
_PROBE_TIMEOUT_SECONDS = 5


class TooManyViewers(Unavailable):
    pass


class Broadcast:
    """The newest snapshot as JSON, and the viewers who wait for a newer one.

    Nothing is queued. A viewer who is slow misses snapshots and gets the newest when ready for it.
    """

    def __init__(self) -> None:
        self._newest = ""
        self._count = 0
        self.viewers = 0
        self._published = asyncio.Condition()
        self.publisher = Worker(
            "publisher", self._publish, poll_seconds=_REFRESH_SECONDS, interruptible=True
        )
        self.listener = Worker(
            "change-listener", self._listen, poll_seconds=1.0, interruptible=True
        )

    def snapshots(self) -> AsyncGenerator[str, None]:
        """A fresh snapshot at once, then the newest one whenever there is a newer; never ends.

        Raises `TooManyViewers` rather than serve more than a replica can.
        """
        if self.viewers >= MOST_VIEWERS:
            raise TooManyViewers(f"{MOST_VIEWERS} pages are open here already.")
        return self._newer_than(self._count)

    async def _newer_than(self, seen: int) -> AsyncGenerator[str, None]:
        self.viewers += 1
        self.publisher.wake()
        try:
            while True:
                async with self._published:
                    await self._published.wait_for(partial(self._is_newer_than, seen))
                seen = self._count
                yield self._newest
        finally:
            self.viewers -= 1

    def _is_newer_than(self, seen: int) -> bool:
        return self._count > seen

    async def _publish(self) -> int:
        if self.viewers:
            started = time.monotonic()
            async with database.transaction() as session:
                snapshot = await take_snapshot(session)
            await self.send(snapshot.model_dump_json())
            took = time.monotonic() - started
            await asyncio.sleep(max(SHORTEST_PAUSE_SECONDS, took * _PAUSE_PER_READING))
        return 0

    async def send(self, snapshot: str) -> None:
        async with self._published:
            self._newest = snapshot
            self._count += 1
            self._published.notify_all()

    async def _listen(self) -> NoReturn:
        """Raises when the connection breaks; the worker then starts it anew."""
        async with _own_connection() as connection:
            lost = asyncio.Event()

            def note_loss(_: Any) -> None:
                lost.set()

            connection.add_termination_listener(note_loss)
            await connection.add_listener(CHANGES, self._hear)
            self._hear()  # what changed while nobody listened
            while True:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(lost.wait(), _PROBE_SECONDS)
                await connection.execute("SELECT 1", timeout=_PROBE_TIMEOUT_SECONDS)

    def _hear(self, *_: Any) -> None:
        self.publisher.wake()


@asynccontextmanager
async def _own_connection() -> AsyncGenerator[Any, None]:
    """A connection of the driver's that the pool does not get back: a listener keeps it."""
    assert isinstance(database.bind, AsyncEngine)  # noqa: S101  # one connection cannot do both
    async with database.bind.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        await connection.run_sync(Connection.detach)
        yield driver


broadcast = Broadcast()
