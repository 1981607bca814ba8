"""`kill -9` in the middle of 200 orders: nothing is lost, nothing happens twice."""

import asyncio
import os
import signal
from uuid import uuid4

import aiohttp
import pytest
from waybill import control
from waybill.commands.verify import broken_promises
from waybill.project import Project
from waybill.shop import Json, Person, Refused, Shop
from waybill.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ORDERS = 200
AT_ONCE = 10
KILL_AFTER = 60


class Crowd:
    """Customers who repeat a request that got no answer, under the same idempotency key."""

    def __init__(self, shop: Shop, customers: list[Person]) -> None:
        self._shop = shop
        self._customers = customers
        self.accepted: list[tuple[Person, Json]] = []
        self.kill_now = asyncio.Event()

    async def buy(self) -> None:
        places = asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> None:
            async with places:
                customer = self._customers[number % len(self._customers)]
                self.accepted.append((customer, await self._insist(customer, number)))
                if len(self.accepted) >= KILL_AFTER:
                    self.kill_now.set()

        await asyncio.gather(*(one(number) for number in range(ORDERS)))

    async def _insist(self, customer: Person, number: int) -> Json:
        key = str(uuid4())
        items = [{"sku": f"SKU-000{1 + number % 5}", "quantity": 1 + number % 3}]
        placed: list[Json] = []

        async def answered() -> bool:
            try:
                placed.append(await self._shop.order(customer, items, key=key))
            except Refused as refusal:
                if refusal.status not in {502, 503, 504}:
                    raise
            except (aiohttp.ClientError, TimeoutError):
                return False
            return bool(placed)

        await until(answered, seconds=90, every=0.5)
        return placed[0]


@pytest.mark.parametrize("victim", ["orders", "orders-daprd"])
async def test_killing_it_in_the_middle_of_orders_loses_none(
    platform: Project, shop: Shop, victim: str
) -> None:
    customers = await asyncio.gather(*(shop.register(f"Crowd {n}") for n in range(5)))
    crowd = Crowd(shop, customers)
    buying = asyncio.create_task(crowd.buy())
    await crowd.kill_now.wait()
    before = await process_of(platform, victim)
    os.kill(before, signal.SIGKILL)
    await buying

    assert len({order["id"] for _, order in crowd.accepted}) == ORDERS
    assert await process_of(platform, victim) != before
    await until(lambda: all_tracked(shop, crowd.accepted), seconds=60, every=1)
    assert await broken_promises(platform) == []


async def all_tracked(shop: Shop, accepted: list[tuple[Person, Json]]) -> bool:
    for customer, order in accepted:
        if not order.get("tracking_number"):
            order.update(await shop.read_order(customer, order["id"]))
        if not order["tracking_number"]:
            return False
    return True


async def process_of(platform: Project, name: str) -> int:
    """The pid of a process that is up; one that was killed has a new one soon."""
    found: list[int] = []

    async def is_up() -> bool:
        status = await control.status(platform)
        assert status
        found[:] = [p.pid for p in status.processes if p.name == name and p.pid]
        return bool(found)

    await until(is_up, seconds=30)
    return found[0]
