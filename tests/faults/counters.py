"""What put things right: counted by the services and the broker, read from outside.

A process that dies takes with it what it counted since its last reading, two seconds at most.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress

import aiohttp
from faults.broker import Broker
from prometheus_client.parser import text_string_to_metric_families
from waybill.ports import HOST
from waybill.project import Project

_EVERY_SECONDS = 2
_COUNTED = {
    "reconciliation_repairs_total": "reconciled",
    "orders_prompted_total": "prompted",
    "events_consumed_total": "absorbed",
}


class Counters:
    """Increments since it was made, over the restarts that set a process's counters to 0."""

    def __init__(self, project: Project, broker: Broker) -> None:
        self._urls = {app.name: f"http://{HOST}:{app.port}/metrics" for app in project.apps}
        self._broker = broker
        self._last: dict[tuple[str, str], float] = {}
        self._grown: Counter[str] = Counter()

    async def read(self) -> Counter[str]:
        """Totals by what put things right."""
        timeout = aiohttp.ClientTimeout(total=3)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            pages = (self._read_service(http, app) for app in self._urls)
            await asyncio.gather(*pages, self._read_broker())
        return self._grown.copy()

    @asynccontextmanager
    async def watched(self) -> AsyncGenerator[None]:
        """Read now and then for the length of the block."""
        await self.read()
        self._grown.clear()
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            await self.read()

    async def _read_service(self, http: aiohttp.ClientSession, app: str) -> None:
        with suppress(aiohttp.ClientError, TimeoutError):
            async with http.get(self._urls[app]) as reply:
                if reply.ok:
                    for what, series, value in _samples(await reply.text()):
                        self._grow(what, app, series, value)

    async def _read_broker(self) -> None:
        with suppress(aiohttp.ClientError, TimeoutError):
            for queue, count in (await self._broker.redeliveries()).items():
                self._grow("redelivered", queue, "", count)

    def _grow(self, what: str, process: str, series: str, value: float) -> None:
        before = self._last.get((process, series), 0)
        self._last[process, series] = value
        self._grown[what] += int(value - before if value >= before else value)


def _samples(page: str) -> Iterable[tuple[str, str, float]]:
    wanted = "\n".join(line for line in page.splitlines() if line.startswith(tuple(_COUNTED)))
    for family in text_string_to_metric_families(f"{wanted}\n"):
        for sample in family.samples:
            what = _COUNTED.get(sample.name)
            if what and sample.labels.get("outcome", "duplicate") == "duplicate":
                yield what, f"{sample.name}{sample.labels}", sample.value
