"""Running claimed work side by side."""

import asyncio
from collections.abc import Sequence

import pytest
from payments import slots
from payments.slots import Job, Slots


class Table:
    """Jobs that wait for permission to end."""

    def __init__(self, jobs: int) -> None:
        self.left = jobs
        self.asked: list[int] = []
        self.done = 0
        self.has_started = asyncio.Semaphore(0)
        self.may_end = asyncio.Event()

    async def claim(self, limit: int) -> Sequence[Job]:
        self.asked.append(limit)
        taken = min(limit, self.left)
        self.left -= taken
        return [self._job] * taken

    async def _job(self) -> None:
        self.has_started.release()
        await self.may_end.wait()
        self.done += 1


async def _until_started(table: Table, jobs: int) -> None:
    async with asyncio.timeout(5):
        for _ in range(jobs):
            await table.has_started.acquire()


async def test_no_more_jobs_run_than_there_are_slots() -> None:
    table = Table(jobs=5)
    desk = Slots(3, table.claim)

    assert await desk.fill() == 3
    await _until_started(table, 3)
    waiting = asyncio.create_task(desk.fill())
    assert table.asked == [3]

    table.may_end.set()
    assert await waiting == 2
    await desk.finish()
    assert table.done == 5


async def test_a_slow_job_leaves_the_other_slots_free() -> None:
    slow, quick = Table(jobs=1), Table(jobs=10)
    quick.may_end.set()
    sources = iter([slow, *[quick] * 20])

    async def claim(limit: int) -> Sequence[Job]:
        return await next(sources).claim(limit)

    desk = Slots(2, claim)
    async with asyncio.timeout(5):
        while quick.done < 10:
            await desk.fill()
            await asyncio.sleep(0)
    assert slow.done == 0
    slow.may_end.set()
    await desk.finish()


async def test_a_job_that_fails_frees_its_slot() -> None:
    async def fail() -> None:
        raise ValueError

    async def claim(_: int) -> Sequence[Job]:
        return [fail]

    desk = Slots(1, claim)
    assert [await desk.fill() for _ in range(3)] == [1, 1, 1]
    await desk.finish()


async def test_jobs_that_do_not_end_in_time_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "GRACE_SECONDS", 0)
    table = Table(jobs=1)
    desk = Slots(1, table.claim)
    await desk.fill()
    await desk.finish()

    table.may_end.set()
    await asyncio.sleep(0)
    assert table.done == 0


async def test_finishing_with_nothing_under_way_is_immediate() -> None:
    await Slots(1, Table(jobs=0).claim).finish()
