"""Restarts that nobody notices, and more orders than the platform can do."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import count
from uuid import uuid4

import aiohttp
import pytest
from waybill import control, ports
from waybill.commands.verify import settled_verdicts
from waybill.credentials import load
from waybill.parts import postgres
from waybill.project import Project
from waybill.shop import ADDRESS, Person, Shop
from waybill.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

BUYERS = 4
MEASURED_SECONDS = 20
TOO_MANY_ORDERS = "urn:waybill:problem:too-many-orders"
_COMPLETED = "SELECT count(*) FROM orders WHERE tracking_number IS NOT NULL"
_ORDERS = "SELECT count(*) FROM orders"


@dataclass(frozen=True)
class Answer:
    """`problem` is the type of the problem, and empty for an order that was accepted."""

    status: int
    problem: str
    retry_after: str


class Buyers:
    """Orders straight from the gateway, without another try; every answer is kept."""

    def __init__(self, http: aiohttp.ClientSession, customers: Sequence[Person]) -> None:
        self.answers: list[Answer] = []
        self._http = http
        self._customers = customers
        self._numbers = count()

    async def order(self) -> Answer:
        number = next(self._numbers)
        headers = self._customers[number % len(self._customers)].headers
        body = {
            "items": [{"sku": f"SKU-000{1 + number % 5}", "quantity": 1}],
            "shipping_address": ADDRESS,
            "payment_method": "pm_card_ok",
        }
        async with self._http.post(
            "/api/v1/orders", json=body, headers={**headers, "Idempotency-Key": str(uuid4())}
        ) as reply:
            document = await reply.json(content_type=None)
            answer = Answer(
                reply.status,
                "" if reply.ok else document["type"],
                reply.headers.get("Retry-After", ""),
            )
        self.answers.append(answer)
        return answer

    async def keep_buying(self, stop: asyncio.Event) -> None:
        """A closed loop: each buys again when answered, and waits as long as is asked for."""

        async def buyer() -> None:
            while not stop.is_set():
                answer = await self.order()
                if answer.retry_after:
                    await asyncio.sleep(int(answer.retry_after))

        await asyncio.gather(*(buyer() for _ in range(BUYERS)))

    async def arrive(self, rate: float, seconds: float) -> None:
        """An open loop: they come at this rate, whatever becomes of those before them."""
        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(int(rate * seconds)):
                await asyncio.sleep(started + number / rate - time.monotonic())
                group.create_task(self.order())


@pytest.fixture
async def buyers(platform: Project, shop: Shop) -> AsyncIterator[Buyers]:
    customers = await asyncio.gather(*(shop.register(f"Buyer {n}") for n in range(8)))
    base = f"http://{ports.HOST}:{platform.app('gateway').port}"
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(base, connector=connector, timeout=timeout) as http:
        yield Buyers(http, customers)


class Orders:
    """How many there are, and how many got their tracking number."""

    def __init__(self, platform: Project) -> None:
        self._platform = platform

    async def _count(self, query: str) -> int:
        async with postgres.connection(load(self._platform), "orders") as session:
            return await session.fetchval(query)

    async def completed(self) -> int:
        return await self._count(_COMPLETED)

    async def all_completed(self, seconds: float) -> None:
        """Every order of these tests is paid for and in stock, so all of them get there."""
        wanted = await self._count(_ORDERS) - await self._count(_GIVEN_UP)

        async def reached() -> bool:
            return await self.completed() >= wanted

        await until(reached, seconds=seconds)


# Of other tests on the same platform: cancelled, or waiting for the customer.
_GIVEN_UP = """
    SELECT count(*) FROM orders WHERE tracking_number IS NULL
    AND (status = 'cancelled' OR payment_method = 'pm_card_requires_action')
"""


async def broken_promises(platform: Project) -> list[object]:
    return [verdict for verdict in await settled_verdicts(platform, 60) if not verdict.holds]


@pytest.mark.parametrize(
    "names",
    [("orders", "orders-daprd"), ("orders-daprd", "orders"), ("catalog", "inventory", "payments")],
    ids="-".join,
)
async def test_a_rolling_restart_is_not_noticed(
    platform: Project, buyers: Buyers, names: Sequence[str]
) -> None:
    stop = asyncio.Event()
    buying = asyncio.create_task(buyers.keep_buying(stop))
    for name in names:
        seen = len(buyers.answers)
        await until(lambda seen=seen: at_least(buyers, seen + BUYERS), seconds=60)
        started = time.perf_counter()
        await control.restart(platform, name)
        print(f"{name} was restarted in {time.perf_counter() - started:.1f} s")  # noqa: T201
    stop.set()
    await buying

    noticed = [answer for answer in buyers.answers if answer.status != 201]
    assert [answer for answer in noticed if answer.problem != TOO_MANY_ORDERS] == []
    await Orders(platform).all_completed(120)
    assert await broken_promises(platform) == []


async def at_least(buyers: Buyers, answers: int) -> bool:
    return len(buyers.answers) >= answers


async def test_twice_the_load_it_can_bear_costs_no_throughput(
    platform: Project, buyers: Buyers
) -> None:
    orders = Orders(platform)
    await orders.all_completed(60)
    peak = await peak_rate(orders, buyers)
    before, started = await orders.completed(), time.perf_counter()
    buyers.answers.clear()
    await buyers.arrive(2 * peak, MEASURED_SECONDS)
    await orders.all_completed(120)
    goodput = (await orders.completed() - before) / (time.perf_counter() - started)
    refused = [answer for answer in buyers.answers if answer.status != 201]
    print(  # noqa: T201
        f"peak {peak:.1f}/s, offered {2 * peak:.1f}/s: goodput {goodput:.1f}/s, "
        f"{len(refused)} of {len(buyers.answers)} refused"
    )

    assert refused
    assert {answer.status for answer in refused} == {503}
    assert all(int(answer.retry_after) >= 1 for answer in refused)
    assert goodput >= 0.9 * peak
    assert await broken_promises(platform) == []


async def peak_rate(orders: Orders, buyers: Buyers) -> float:
    """Orders completed a second, the last of them included, by a few buyers who never rest."""
    before, started = await orders.completed(), time.perf_counter()
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(MEASURED_SECONDS, stop.set)
    await buyers.keep_buying(stop)
    await orders.all_completed(120)
    return (await orders.completed() - before) / (time.perf_counter() - started)
