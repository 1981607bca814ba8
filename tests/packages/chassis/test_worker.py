"""Background work: at once when woken, again after an error, ended by cancellation."""

import asyncio
from contextlib import suppress

import pytest
from chassis.worker import Worker


async def run_until(worker: Worker, done: asyncio.Event) -> None:
    task = asyncio.create_task(worker.run())
    try:
        async with asyncio.timeout(5):
            await done.wait()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_work_goes_on_until_there_is_none_then_waits_to_be_woken() -> None:
    todo = [1, 1, 0, 1, 0]
    rested, done = asyncio.Event(), asyncio.Event()

    async def step() -> int:
        size = todo.pop(0)
        if len(todo) == 2:
            rested.set()
        if not todo:
            done.set()
        return size

    worker = Worker("test", step, poll_seconds=60)
    task = asyncio.create_task(run_until(worker, done))
    async with asyncio.timeout(5):
        await rested.wait()
        assert todo == [1, 0]
        worker.wake()
        await task


@pytest.mark.parametrize("outcome", ["nothing to do", "failure"])
async def test_it_looks_again_without_being_woken(outcome: str) -> None:
    calls = 0
    done = asyncio.Event()

    async def step() -> int:
        nonlocal calls
        calls += 1
        if calls == 3:
            done.set()
        if outcome == "failure":
            raise ZeroDivisionError
        return 0

    await run_until(Worker("test", step, poll_seconds=0.01), done)
    assert calls >= 3
