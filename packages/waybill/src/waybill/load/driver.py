"""Sends customers to the platform, at a rate or so many at a time, for as long as is wanted."""

import asyncio
import math
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import Any

from waybill.load import cpu, outcomes
from waybill.load.client import Client, GaveUp, first_error
from waybill.load.errands import Errands
from waybill.load.mix import SHOP, Arrivals, Mix, arrival_times, errand
from waybill.load.report import Cost, Percentiles, Report
from waybill.project import Project
from waybill.shop import Refused, open_shop
from waybill.waiting import until

DRAIN_SECONDS = 60


def new_seed() -> int:
    return secrets.randbelow(2**32)


@dataclass(frozen=True, kw_only=True)
class Load:
    """Open with a `rate` of arrivals a second, closed with so many `buyers` without a pause.

    Goes on for `seconds`, or until the block of `running` is left. Arrivals that find `in_flight`
    errands under way are counted as not sent. `customers` are registered before it begins.
    """

    project: Project
    goods: Sequence[str]
    rate: float | None = None
    buyers: int | None = None
    seconds: float = math.inf
    seed: int = field(default_factory=new_seed)
    mix: Mix = SHOP
    arrivals: Arrivals = Arrivals.POISSON
    customers: int = 40
    in_flight: int = 500

    def __post_init__(self) -> None:
        if (self.rate is None) == (self.buyers is None):
            raise ValueError("a load has either a rate or a number of buyers")

    @asynccontextmanager
    async def running(self) -> AsyncGenerator["Run"]:
        """The load, begun; leaving the block stops arrivals and waits for what is in flight."""
        async with open_shop(self.project) as shop:
            client = Client(self.seed)
            errands = Errands(shop, client)
            await errands.register_customers(self.customers)
            client.samples.clear()
            run = Run(self, client, errands, await cpu.read(self.project))
            try:
                yield run
            finally:
                await run.stop()

    @property
    def parameters(self) -> dict[str, Any]:
        """All that repeats it, but for the seed."""
        return {
            "rate": self.rate,
            "buyers": self.buyers,
            "seconds": None if self.seconds == math.inf else self.seconds,
            "arrivals": self.arrivals,
            "customers": self.customers,
            "in_flight": self.in_flight,
            "goods": list(self.goods),
            "mix": asdict(self.mix),
        }


class Run:
    """A load that is under way. What breaks it, is raised by whatever is awaited here."""

    def __init__(self, load: Load, client: Client, errands: Errands, meter: cpu.Meter) -> None:
        self.under_way = 0
        self.not_sent = 0
        self._load = load
        self._client = client
        self._errands = errands
        self._meter = meter
        self.abandoned = 0
        self._lateness: list[float] = []
        self._stopping = asyncio.Event()
        self._started_at = time.time()
        self._ended_at = self._started_at
        self._driving = asyncio.create_task(self._drive(), name="load")

    @property
    def accepted(self) -> int:
        return len(self._errands.accepted)

    @property
    def errors(self) -> int:
        return self._client.errors

    async def accepted_at_least(self, orders: int, seconds: float = 60) -> None:
        """Raises TimeoutError, or what ended the load before."""

        async def reached() -> bool:
            if self._driving.done():
                self._driving.result()
            return self.accepted >= orders

        await until(reached, seconds=seconds, every=0.05)

    async def ended(self) -> None:
        """Returns when a load with an end is over."""
        await asyncio.shield(self._driving)

    async def stop(self) -> None:
        self._stopping.set()
        await self._driving

    async def report(self, settle_seconds: float = 60) -> Report:
        """Once all that is under way has ended, or as it is after `settle_seconds`."""
        with suppress(TimeoutError):
            await until(self._has_settled, seconds=settle_seconds, every=1)
        after = await cpu.read(self._load.project)
        return Report(
            seed=self._load.seed,
            parameters=self._load.parameters,
            started_at=self._started_at,
            ended_at=self._ended_at,
            samples=self._client.samples,
            outcomes=await outcomes.read(self._load.project, self._errands.accepted),
            cost=Cost(
                time.time() - self._started_at,
                cpu.spent(self._meter, after),
                after.machine - self._meter.machine,
            ),
            not_sent=self.not_sent,
            given_up=self._client.given_up,
            abandoned=self.abandoned,
            mails_waiting=await outcomes.mails_waiting(self._load.project),
            lateness=Percentiles.of(self._lateness),
        )

    async def _has_settled(self) -> bool:
        here = self._load.project
        orders = await outcomes.under_way(here, self._errands.accepted)
        return not orders and not await outcomes.mails_waiting(here)

    async def _drive(self) -> None:
        with suppress(TimeoutError), first_error():
            async with asyncio.timeout(None) as patience, asyncio.TaskGroup() as group:
                await (self._arrive(group) if self._load.rate else self._keep_busy(group))
                self._ended_at = time.time()
                patience.reschedule(asyncio.get_running_loop().time() + DRAIN_SECONDS)

    async def _arrive(self, group: asyncio.TaskGroup) -> None:
        load = self._load
        for number, due in enumerate(arrival_times(load.seed, load.rate or 0, load.arrivals)):
            await self._pause(due)
            if self._is_over():
                return
            self._lateness.append(time.time() - self._started_at - due)
            if self.under_way >= load.in_flight:
                self.not_sent += 1
            else:
                self.under_way += 1
                group.create_task(self._send(number))

    async def _keep_busy(self, group: asyncio.TaskGroup) -> None:
        numbers = count()

        async def buyer() -> None:
            while not self._is_over():
                self.under_way += 1
                await self._send(next(numbers))

        for _ in range(self._load.buyers or 0):
            group.create_task(buyer())
        await self._pause(math.inf)

    async def _pause(self, due: float) -> None:
        """Until so many seconds after the beginning, unless the load is over before."""
        end = min(due, self._load.seconds)
        left = self._started_at + end - time.time()
        with suppress(TimeoutError):
            async with asyncio.timeout(None if end == math.inf else max(0, left)):
                await self._stopping.wait()

    def _is_over(self) -> bool:
        return self._stopping.is_set() or time.time() >= self._started_at + self._load.seconds

    async def _send(self, number: int) -> None:
        """A customer who cannot go on leaves; what happened is in the samples."""
        load = self._load
        try:
            await self._errands.run(errand(load.seed, number, load.mix, load.goods, load.customers))
        except (Refused, GaveUp):
            pass
        except asyncio.CancelledError:
            self.abandoned += 1
            raise
        finally:
            self.under_way -= 1
