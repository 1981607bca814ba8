"""The broker loses events and calls it success; the event logs bring them back."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from waybill import ports
from waybill.commands.verify import broken_promises
from waybill.credentials import load
from waybill.parts import postgres
from waybill.project import Project
from waybill.shop import Json, Person, Shop
from waybill.waiting import until

Unbound: TypeAlias = Callable[[str, str], AbstractAsyncContextManager[None]]

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MUG = [{"sku": "MUG-ENAMEL", "quantity": 1}]


async def is_tracked(shop: Shop, customer: Person, order: Json) -> bool:
    return bool((await shop.read_order(customer, order["id"]))["tracking_number"])


async def all_is_published(platform: Project) -> bool:
    async with postgres.connection(load(platform), "orders") as session:
        return not await session.fetchval(
            "SELECT count(*) FROM event_log WHERE published_at IS NULL"
        )


async def repairs(platform: Project, service: str) -> float:
    """How many events of orders the service has fetched since it started."""
    url = f"http://{ports.HOST}:{platform.app(service).port}/metrics"
    async with aiohttp.ClientSession() as http, http.get(url) as reply:
        families = text_string_to_metric_families(await reply.text())
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == "reconciliation_repairs_total" and sample.labels["producer"] == "orders"
    )


async def test_orders_whose_events_the_broker_dropped_are_delivered(
    platform: Project, shop: Shop, unbound: Unbound
) -> None:
    customer = await shop.register("Dropped Once")
    before = await repairs(platform, "inventory")
    async with unbound("inventory", "order.created"):
        orders = [await shop.order(customer, MUG) for _ in range(10)]
        await until(lambda: all_is_published(platform), seconds=30)
    await asyncio.gather(
        *(
            until(lambda order=order: is_tracked(shop, customer, order), seconds=90, every=0.5)
            for order in orders
        )
    )
    assert await repairs(platform, "inventory") - before == len(orders)
    assert await broken_promises(platform) == []


async def test_the_dashboards_read_model_is_rebuilt_from_the_event_logs(
    platform: Project, shop: Shop
) -> None:
    customer = await shop.register("Seen Twice")
    order = await shop.order(customer, MUG)
    await until(lambda: is_tracked(shop, customer, order), seconds=30)
    assert await broken_promises(platform) == []
    command = [".venv/bin/waybill", "replay", "dashboard"]
    process = await asyncio.create_subprocess_exec(*command, cwd=platform.root)
    assert await process.wait() == 0
    assert await broken_promises(platform) == []
