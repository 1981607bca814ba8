"""The driver sends no more than it may, and leaves nothing behind."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from waybill.load import driver
from waybill.load.client import Client, GaveUp
from waybill.load.cpu import Meter
from waybill.load.driver import Load, Run
from waybill.load.errands import Errands
from waybill.load.mix import Errand
from waybill.project import Project
from waybill.waiting import until

LOAD = Load(project=Project(Path()), goods=["SKU-0001"], rate=500, seed=1, in_flight=5)


class Stalled(Errands):
    """Errands that end when the platform answers, or raise what they meet."""

    def __init__(self, trouble: Exception | None = None) -> None:
        self.accepted = {}
        self.begun = 0
        self.answered = asyncio.Event()
        self._trouble = trouble

    async def run(self, errand: Errand) -> None:  # noqa: ARG002  # as its original
        self.begun += 1
        number = self.begun
        await self.answered.wait()
        await asyncio.sleep(0)
        if self._trouble:
            raise self._trouble
        self.accepted[str(number)] = 0.0


@asynccontextmanager
async def running(load: Load, errands: Stalled) -> AsyncGenerator[Run]:
    run = Run(load, Client(1), errands, Meter({}, 0))
    try:
        yield run
    finally:
        errands.answered.set()
        await run.stop()


async def has_begun(errands: Stalled, count: int) -> None:
    async def begun() -> bool:
        return errands.begun >= count

    await until(begun, seconds=5, every=0.01)


async def test_arrivals_past_the_bound_are_counted_and_not_sent() -> None:
    errands = Stalled()
    async with running(LOAD, errands) as run:

        async def overrun() -> bool:
            return run.not_sent >= 20

        await until(overrun, seconds=5, every=0.01)
        assert errands.begun == run.under_way == LOAD.in_flight
    assert run.under_way == 0


async def test_so_many_buyers_are_never_more_nor_fewer() -> None:
    errands = Stalled()
    async with running(replace(LOAD, rate=None, buyers=3), errands) as run:
        await has_begun(errands, 3)
        assert run.under_way == 3
        errands.answered.set()
        await run.accepted_at_least(10)
        assert run.under_way <= 3
    assert run.accepted == errands.begun


async def test_what_is_in_flight_may_end_when_arrivals_stop() -> None:
    errands = Stalled()
    async with running(LOAD, errands) as run:
        await has_begun(errands, 1)
        stopping = asyncio.create_task(run.stop())
        await asyncio.sleep(0)
        assert not stopping.done()
        errands.answered.set()
        await stopping
    assert run.accepted == errands.begun


async def test_patience_with_what_is_in_flight_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "DRAIN_SECONDS", 0.05)
    errands = Stalled()
    async with running(LOAD, errands) as run:
        await has_begun(errands, 5)
        await run.stop()
    assert (run.abandoned, run.under_way, run.accepted) == (5, 0, 0)


async def test_a_load_with_an_end_ends_by_itself() -> None:
    errands = Stalled()
    errands.answered.set()
    async with running(replace(LOAD, seconds=0.1), errands) as run:
        await run.ended()
        assert errands.begun == run.accepted > 0


async def test_a_customer_who_gets_no_answer_ends_no_load() -> None:
    errands = Stalled(GaveUp("order"))
    errands.answered.set()
    async with running(LOAD, errands):
        await has_begun(errands, 10)


async def test_what_breaks_the_load_is_raised_to_whoever_waits() -> None:
    errands = Stalled(KeyError("a defect"))
    errands.answered.set()
    with pytest.raises(KeyError):
        async with running(LOAD, errands) as run:
            await run.accepted_at_least(1)


def test_a_load_is_open_or_closed() -> None:
    with pytest.raises(ValueError, match="either"):
        replace(LOAD, buyers=3)
