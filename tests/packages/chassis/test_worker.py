"""Background work: at once when woken, again after an error, stopped between two steps."""

import asyncio
from contextlib import suppress

import pytest
from chassis.worker import Worker, at_work


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


async def test_it_is_stopped_between_two_steps_and_not_in_one() -> None:
    begun, finish = asyncio.Event(), asyncio.Event()
    ended: list[str] = []

    async def step() -> int:
        begun.set()
        await finish.wait()
        ended.append("step")
        return 1

    worker = Worker("test", step, poll_seconds=60)
    async with asyncio.timeout(5):
        async with at_work([worker]):
            await begun.wait()
            asyncio.get_running_loop().call_soon(finish.set)
        assert ended == ["step"]


@pytest.mark.parametrize("outcome", ["nothing to do", "failure"])
async def test_one_that_rests_is_stopped_at_once(outcome: str) -> None:
    rested = asyncio.Event()

    async def step() -> int:
        rested.set()
        if outcome == "failure":
            raise ZeroDivisionError
        return 0

    async with asyncio.timeout(5), at_work([Worker("test", step, poll_seconds=60)]):
        await rested.wait()


async def test_one_that_drains_goes_on_until_there_is_nothing_left() -> None:
    todo = 0
    idle = asyncio.Event()

    async def step() -> int:
        nonlocal todo
        idle.set()
        todo -= bool(todo)
        return todo

    async with asyncio.timeout(5), at_work([Worker("test", step, poll_seconds=60, drains=True)]):
        await idle.wait()
        todo = 5
    assert todo == 0


async def test_one_that_drains_gives_up_when_it_fails() -> None:
    idle = asyncio.Event()

    async def step() -> int:
        idle.set()
        raise ZeroDivisionError

    async with asyncio.timeout(5), at_work([Worker("test", step, poll_seconds=60, drains=True)]):
        await idle.wait()


@pytest.mark.parametrize(("kind", "grace"), [("interruptible", 60), ("any other", 0.05)])
async def test_a_step_that_never_ends_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch, kind: str, grace: float
) -> None:
    monkeypatch.setattr("chassis.worker.GRACE_SECONDS", grace)
    begun = asyncio.Event()

    async def step() -> int:
        begun.set()
        await asyncio.Event().wait()
        return 0

    worker = Worker("test", step, interruptible=kind == "interruptible")
    async with asyncio.timeout(5), at_work([worker]):
        await begun.wait()


async def test_a_step_of_many_parts_learns_that_it_should_end() -> None:
    begun = asyncio.Event()
    parts = 0

    async def step() -> int:
        nonlocal parts
        while not worker.is_stopping:
            parts += 1
            begun.set()
            await asyncio.sleep(0)
        return parts

    worker = Worker("test", step)
    async with asyncio.timeout(5), at_work([worker]):
        await begun.wait()
