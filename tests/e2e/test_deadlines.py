"""What nobody pays for ends, and what a lost event held up comes on; by the real scheduler."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias
from uuid import UUID

import pytest
from waybill.credentials import load
from waybill.parts import postgres
from waybill.project import Project
from waybill.shop import Person, Shop
from waybill.verify.snapshot import Snapshot
from waybill.verify.sources import take_snapshot
from waybill.waiting import until

Unbound: TypeAlias = Callable[[str, str], AbstractAsyncContextManager[None]]

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


async def announced(here: Project, order_id: str) -> UUID:
    """The id of the order's creation, once the broker has taken it from the log."""
    ids: list[UUID] = []

    async def is_published() -> bool:
        query = "SELECT id FROM event_log WHERE key = $1 AND published_at IS NOT NULL"
        async with postgres.connection(load(here), "orders") as session:
            ids.extend(row["id"] for row in await session.fetch(query, order_id))
        return bool(ids)

    await until(is_published, seconds=30)
    return ids[0]


async def swallow(here: Project, service: str, event_id: UUID) -> None:
    """As a defect would that enters an event in the inbox and does nothing."""
    async with postgres.connection(load(here), service) as session:
        await session.execute("INSERT INTO inbox (event_id) VALUES ($1)", event_id)


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


async def comes_as_far_as_it_can(here: Project, order_id: str, last: str) -> None:
    """`last` says in SQL what the order is like then; any step makes it wait anew."""
    query = f"SELECT {last} FROM orders WHERE id = $1"

    async def is_there() -> bool:
        async with postgres.connection(load(here), "orders") as session:
            return bool(await session.fetchval(query, UUID(order_id)))

    await until(is_there, seconds=30)


@pytest.mark.parametrize(
    ("deaf", "last"),
    [("inventory", "status = 'pending'"), ("payments", "stock_reserved_at IS NOT NULL")],
)
async def test_an_order_whose_creation_was_swallowed_comes_on_when_it_is_told_again(
    platform: Project, shop: Shop, unbound: Unbound, deaf: str, last: str
) -> None:
    async with unbound(deaf, "order.created"):
        customer, order_id = await the_mug_order(shop, "Ole Krog", "pm_card_ok")
        await swallow(platform, deaf, await announced(platform, order_id))
    await comes_as_far_as_it_can(platform, order_id, last)
    assert (await shop.read_order(customer, order_id))["status"] == "pending"
    await make_older(platform, order_id, minutes=2)

    async def is_tracked() -> bool:
        return bool((await shop.read_order(customer, order_id))["tracking_number"])

    await until(is_tracked, seconds=TICK_AND_MORE)
    done = {"orders": "processing", "inventory": "reserved", "payments": "succeeded"}
    await comes_to(platform, order_id, done)
