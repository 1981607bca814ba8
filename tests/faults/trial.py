"""One trial: load, blows, and what the records say afterwards."""

import os
import signal
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

import asyncpg
from faults.broker import Broker
from faults.counters import Counters
from faults.report import Blow
from faults.subject import GOODS, Platform
from faults.throughput import WINDOW, back_at, completions
from waybill import control
from waybill.commands.verify import settled_verdicts
from waybill.credentials import load as load_secrets
from waybill.load import outcomes
from waybill.load.client import NO_ANSWER
from waybill.load.driver import Load, Run
from waybill.load.mix import Arrivals, Mix
from waybill.parts import postgres
from waybill.processes import State
from waybill.project import Project
from waybill.shop import Shop
from waybill.waiting import until

MIX = Mix(buying=1, newcomers=0.01, declined=0.02, requires_action=0.01, unapproved=0, timeout=0)
CUSTOMERS = 8
MEASURED_ORDERS = 60
FLOOR_SECONDS = 6.0
"""A recovery is not judged more finely than by a window and a half."""
SETTLE_SECONDS = 120
_RETURN_SECONDS = 90
_LATE = """
    SELECT created_at FROM event_log
    WHERE created_at >= $1 AND published_at - created_at > interval '2 seconds'
"""


@dataclass
class Trial:
    platform: Platform
    shop: Shop
    broker: Broker
    seed: int
    random: Random = field(init=False)
    counters: Counters = field(init=False)
    blows: list[Blow] = field(default_factory=list[Blow])
    broken: list[str] = field(default_factory=list[str])
    answers: Mapping[str, int] = field(default_factory=dict[str, int])
    orders: int = 0
    _counted: list[Counter[str]] = field(default_factory=list[Counter[str]])

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.counters = Counters(self.project, self.broker)

    @property
    def project(self) -> Project:
        return self.platform.project

    @property
    def statuses(self) -> set[str]:
        """Of the errors that clients met, without what the platform calls them."""
        return {a if a == NO_ANSWER else a.partition(" ")[0] for a in self.answers}

    @asynccontextmanager
    async def under_load(
        self, mix: Mix = MIX, settle_seconds: float = SETTLE_SECONDS
    ) -> AsyncGenerator[Run]:
        """Orders come before, while and after the block; then the records are judged."""
        load = Load(
            project=self.project,
            goods=[item.sku for item in GOODS],
            rate=self.platform.rate,
            arrivals=Arrivals.EVEN,
            seed=self.seed,
            mix=mix,
            customers=CUSTOMERS,
        )
        async with self.counters.watched():
            async with load.running() as run:
                await self._in_full_flow(run)
                yield run
            await self.judge(settle_seconds)
            await self._account(run)
        if self.broken:
            raise AssertionError("\n".join(self.broken))

    async def _in_full_flow(self, run: Run) -> None:
        """The first trial measures what is usual; it is the same for all that follow."""
        begun = datetime.now(UTC)
        if self.platform.usual is None:
            await run.accepted_at_least(MEASURED_ORDERS)
            times = await completions(self.project, begun)
            self.platform.usual = min(
                self.platform.rate, len(times[len(times) // 2 :]) / _span(times)
            )
        usual = self.platform.usual

        async def flowing() -> bool:
            return bool(back_at(await completions(self.project, begun), begun, usual))

        await until(flowing, seconds=60, every=0.5)

    @asynccontextmanager
    async def blow(self, what: str) -> AsyncGenerator[None]:
        """The block ends when what was hurt is itself again; the throughput has to return, too."""
        at = datetime.now(UTC)
        self._counted.append(await self.counters.read())
        yield
        whole = (datetime.now(UTC) - at).total_seconds()
        allowed = max(3 * whole, FLOOR_SECONDS)
        back = await self._back(at, at + timedelta(seconds=allowed) + WINDOW)
        blow = Blow(what=what, at=at, whole=whole, back=back, allowed=allowed)
        self.blows.append(blow)
        if not blow.in_time:
            self.broken.append(f"{what}: throughput not back within {allowed:.0f} s")

    async def _back(self, at: datetime, deadline: datetime) -> float | None:
        found: list[float] = []

        async def back() -> bool:
            try:
                times = await completions(self.project, at)
            except (OSError, asyncpg.PostgresError, TimeoutError):
                return False
            start = back_at(times, at, self.platform.usual or self.platform.rate)
            found[:] = [] if start is None else [(start - at).total_seconds()]
            return bool(found)

        with suppress(TimeoutError):
            left = (deadline - datetime.now(UTC)).total_seconds()
            await until(back, seconds=max(left, 1), every=0.5)
        return found[0] if found else None

    async def kill(self, name: str, what: str = "", how: signal.Signals = signal.SIGKILL) -> None:
        """`kill -9`, and the supervisor starts it again; `what` names the blow."""
        pid = await self.pid(name)
        async with self.blow(what or f"{name} killed"):
            os.kill(pid, how)
            await self.returned(name, pid)

    async def pid(self, name: str) -> int:
        """Of a process that is up, or will soon be."""
        found: list[int] = []

        async def up() -> bool:
            status = await control.status(self.project)
            processes = status.processes if status else []
            found[:] = [p.pid for p in processes if p.name == name and p.pid]
            return bool(found)

        await until(up, seconds=_RETURN_SECONDS)
        return found[0]

    async def returned(self, name: str, pid: int) -> None:
        """Waits until the process is up and ready under another pid."""

        async def ready() -> bool:
            status = await control.status(self.project)
            return status is not None and any(
                p.name == name and p.pid not in {None, pid} and p.state is State.RUNNING
                for p in status.processes
            )

        await until(ready, seconds=_RETURN_SECONDS, every=0.1)

    async def up(self, name: str) -> None:
        await self.returned(name, 0)

    async def judge(self, settle_seconds: float = SETTLE_SECONDS) -> None:
        """I1 to I6, once everything has settled."""
        for verdict in await settled_verdicts(self.project, settle_seconds):
            found = verdict.violations or ((verdict.unchecked,) if verdict.unchecked else ())
            self.broken += [f"{verdict.invariant.name}: {violation}" for violation in found[:5]]

    async def _account(self, run: Run) -> None:
        """What each blow met, and what put it right."""
        report = await run.report(settle_seconds=0)
        self.orders = report.accepted
        self.answers = _by_status(report.errors)
        ends = [*self._counted[1:], await self.counters.read()]
        late = await self._late()
        following = [*(blow.at for blow in self.blows[1:]), datetime.now(UTC)]
        for blow, before, after, end in zip(
            self.blows, self._counted, ends, following, strict=False
        ):
            blow.orders = _exposed(blow, report.outcomes)
            blow.repairs = dict(after - before)
            blow.repairs["late"] = sum(blow.at <= at < end for at in late)

    async def _late(self) -> list[datetime]:
        since = self.blows[0].at if self.blows else datetime.now(UTC)
        times: list[datetime] = []
        for service in self.project.databases:
            async with postgres.connection(load_secrets(self.project), service) as session:
                times += [row["created_at"] for row in await session.fetch(_LATE, since)]
        return times


def _span(times: Sequence[datetime]) -> float:
    return (times[-1] - times[len(times) // 2]).total_seconds()


def _exposed(blow: Blow, orders: Sequence[outcomes.Outcome]) -> int:
    begun = blow.at.timestamp()
    end = begun + (blow.allowed if blow.back is None else max(blow.back, blow.whole))
    return sum(
        order.accepted_at <= end and (order.completed_at is None or order.completed_at >= begun)
        for order in orders
    )


def _by_status(errors: Mapping[str, Mapping[str, int]]) -> Mapping[str, int]:
    counts: Counter[str] = Counter()
    for by_status in errors.values():
        counts.update(by_status)
    return counts
