"""The broker loses events and calls it success; the event logs bring them back."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import quote

import aiohttp
import pytest
from waybill import ports
from waybill.commands.verify import settled_verdicts
from waybill.credentials import load
from waybill.parts import postgres
from waybill.project import Project
from waybill.shop import Json, Person, Shop
from waybill.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MUG = [{"sku": "MUG-ENAMEL", "quantity": 1}]
POLICY = "refuse-everything"


@asynccontextmanager
async def refusing_broker(platform: Project) -> AsyncGenerator[None]:
    """Every queue is full and refuses what is published; the sidecars answer 204 all the same."""
    secrets = load(platform)
    login = aiohttp.encode_basic_auth(secrets.rabbitmq_user, secrets.rabbitmq_password)
    base = f"http://{ports.HOST}:{ports.RABBITMQ_MANAGEMENT}/api/policies/waybill/{quote(POLICY)}"
    body = {
        "pattern": ".*",
        "definition": {"max-length": 0, "overflow": "reject-publish"},
        "apply-to": "queues",
        "priority": 100,
    }
    async with aiohttp.ClientSession(headers={"Authorization": login}) as http:
        async with http.put(base, json=body) as reply:
            reply.raise_for_status()
        try:
            yield
        finally:
            async with http.delete(base) as reply:
                reply.raise_for_status()


async def is_tracked(shop: Shop, customer: Person, order: Json) -> bool:
    return bool((await shop.read_order(customer, order["id"]))["tracking_number"])


async def nothing_is_unpublished(platform: Project) -> bool:
    async with postgres.connection(load(platform), "orders") as session:
        return not await session.fetchval(
            "SELECT count(*) FROM event_log WHERE published_at IS NULL"
        )


async def test_orders_whose_events_the_broker_refused_are_delivered(
    platform: Project, shop: Shop
) -> None:
    customer = await shop.register("Refused Once")
    async with refusing_broker(platform):
        orders = [await shop.order(customer, MUG) for _ in range(10)]
        await until(lambda: nothing_is_unpublished(platform), seconds=30)
    await asyncio.gather(
        *(
            until(lambda order=order: is_tracked(shop, customer, order), seconds=90, every=0.5)
            for order in orders
        )
    )
    assert [v for v in await settled_verdicts(platform, 60) if not v.holds] == []


async def test_the_dashboards_read_model_is_rebuilt_from_the_event_logs(
    platform: Project, shop: Shop
) -> None:
    customer = await shop.register("Seen Twice")
    order = await shop.order(customer, MUG)
    await until(lambda: is_tracked(shop, customer, order), seconds=30)
    assert [v for v in await settled_verdicts(platform, 60) if not v.holds] == []
    command = [".venv/bin/waybill", "replay", "dashboard"]
    process = await asyncio.create_subprocess_exec(*command, cwd=platform.root)
    assert await process.wait() == 0
    assert [v for v in await settled_verdicts(platform, 60) if not v.holds] == []
