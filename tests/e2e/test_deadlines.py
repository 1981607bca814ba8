"""What nobody pays for ends, and what a lost event held up comes on; by the real scheduler."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from waybill import ports
from waybill.credentials import load
from waybill.parts import postgres
from waybill.project import Project
from waybill.shop import Person, Shop
from waybill.verify.snapshot import Snapshot
from waybill.verify.sources import take_snapshot
from waybill.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MUG = [{"sku": "MUG-ENAMEL", "quantity": 1}]
TICK_AND_MORE = 60


async def make_older(here: Project, order_id: str, minutes: int) -> None:
    """As if it had been placed, and had last come on, that much earlier."""
    async with postgres.connection(load(here), "orders") as session:
        await session.execute(
            """
            UPDATE orders
            SET created_at = created_at - make_interval(mins => $2),
                updated_at = updated_at - make_interval(mins => $2)
            WHERE id = $1
            """,
            UUID(order_id),
            minutes,
        )


def found(snapshot: Snapshot, order_id: str) -> dict[str, str]:
    """What the services make of an order, by service."""
    records = {
        "orders": [o.status for o in snapshot.orders if o.id == order_id],
        "inventory": [r.status for r in snapshot.reservations if r.order_id == order_id],
        "payments": [p.status for p in snapshot.payments if p.order_id == order_id],
    }
    return {service: statuses[0] for service, statuses in records.items() if statuses}


async def comes_to(here: Project, order_id: str, expected: dict[str, str]) -> None:
    seen: dict[str, str] = {}

    async def reached() -> bool:
        seen.clear()
        seen.update(found(await take_snapshot(here), order_id))
        return expected.items() <= seen.items()

    try:
        await until(reached, seconds=TICK_AND_MORE, every=0.5)
    except TimeoutError:
        pytest.fail(f"wanted {expected}, got {seen}")


@asynccontextmanager
async def unbound(here: Project, queue: str, topic: str) -> AsyncGenerator[None]:
    """For the length of the block the broker brings no event of this type to the queue."""
    secrets = load(here)
    login = aiohttp.encode_basic_auth(secrets.rabbitmq_user, secrets.rabbitmq_password)
    base = f"http://{ports.HOST}:{ports.RABBITMQ_MANAGEMENT}"
    path = f"/api/bindings/%2F/e/events/q/{queue}"

    async def ask(method: str, url: str, body: Any = None) -> None:
        async with http.request(method, url, json=body) as reply:
            reply.raise_for_status()

    async with aiohttp.ClientSession(base, headers={"Authorization": login}) as http:
        await ask("DELETE", f"{path}/{topic}")
        try:
            yield
        finally:
            await ask("POST", path, {"routing_key": topic})


async def is_announced(here: Project, order_id: str) -> bool:
    """True once the broker has taken the order's creation from the log."""
    async with postgres.connection(load(here), "orders") as session:
        query = "SELECT published_at IS NOT NULL FROM event_log WHERE key = $1"
        return bool(await session.fetchval(query, order_id))


async def the_mug_order(shop: Shop, name: str, method: str) -> tuple[Person, str]:
    customer = await shop.register(name)
    return customer, (await shop.order(customer, MUG, method))["id"]


async def test_an_order_whose_customer_never_approves_ends_at_its_deadline(
    platform: Project, shop: Shop
) -> None:
    customer, order_id = await the_mug_order(shop, "Una Lund", "pm_card_requires_action")
    await comes_to(platform, order_id, {"payments": "requires_action", "inventory": "reserved"})
    await make_older(platform, order_id, minutes=15)

    ended = {"orders": "cancelled", "inventory": "released", "payments": "cancelled"}
    await comes_to(platform, order_id, ended)
    order = await shop.read_order(customer, order_id)
    assert order["cancellation_reason"] == "payment_expired"


@pytest.mark.parametrize("deaf", ["inventory", "payments"])
async def test_an_order_whose_creation_was_lost_comes_on_when_it_is_told_again(
    platform: Project, shop: Shop, deaf: str
) -> None:
    async with unbound(platform, f"{deaf}-events", "order.created"):
        customer, order_id = await the_mug_order(shop, "Ole Krog", "pm_card_ok")
        await until(lambda: is_announced(platform, order_id), seconds=30)
    assert (await shop.read_order(customer, order_id))["status"] == "pending"
    await make_older(platform, order_id, minutes=2)

    async def is_tracked() -> bool:
        return bool((await shop.read_order(customer, order_id))["tracking_number"])

    await until(is_tracked, seconds=TICK_AND_MORE)
    done = {"orders": "processing", "inventory": "reserved", "payments": "succeeded"}
    await comes_to(platform, order_id, done)
