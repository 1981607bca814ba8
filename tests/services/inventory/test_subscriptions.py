"""What `inventory` does with the events of orders and products, in any order and however often."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest
from chassis.tables import new_id
from chassis.testing import Delivered, as_entry, dead_letters, logged
from contracts.catalog import ProductUpdated
from contracts.inventory import (
    LowStock,
    ReservedLine,
    Shortage,
    StockRejected,
    StockReleased,
    StockReserved,
)
from contracts.orders import OrderStatus
from prometheus_client import REGISTRY

StatusOf = Callable[[UUID], Awaitable[str | None]]

TWO_LAMPS = (ReservedLine(sku="LAMP", warehouse="main", quantity=2),)


async def test_a_created_order_gets_its_stock(
    deliver: Delivered, orders: Any, stocked: Any, shelf_of: Any
) -> None:
    await stocked("main", LAMP=5, MUG=9)
    created = orders.created(LAMP=2, MUG=1)

    await deliver(created)

    [reserved] = await logged(StockReserved)
    assert reserved.order_id == created.order_id
    assert {(line.sku, line.quantity) for line in reserved.lines} == {("LAMP", 2), ("MUG", 1)}
    assert await shelf_of("LAMP") == (5, 3, 2, 0)
    assert await shelf_of("MUG") == (9, 8, 1, 0)


async def test_an_order_that_cannot_be_filled_wholly_gets_nothing(
    deliver: Delivered, orders: Any, stocked: Any, shelf_of: Any
) -> None:
    await stocked("main", LAMP=5, MUG=0)

    await deliver(orders.created(LAMP=2, MUG=1, GHOST=3))

    [rejected] = await logged(StockRejected)
    assert rejected.shortages == (
        Shortage(sku="MUG", requested=1, available=0),
        Shortage(sku="GHOST", requested=3, available=0),
    )
    assert await shelf_of("LAMP") == (5, 5, 0, 0)


async def test_a_batch_is_served_until_the_shelf_is_empty(
    deliver: Delivered, orders: Any, stocked: Any, shelf_of: Any
) -> None:
    await stocked("main", LAMP=3)
    batch = [orders.created(LAMP=1) for _ in range(5)]

    await deliver(*batch)

    reserved = {event.order_id for event in await logged(StockReserved)}
    rejected = {event.order_id for event in await logged(StockRejected)}
    assert reserved == {event.order_id for event in batch[:3]}
    assert rejected == {event.order_id for event in batch[3:]}
    assert await shelf_of("LAMP") == (3, 0, 3, 0)


async def test_two_lines_of_one_sku_are_reserved_together(
    deliver: Delivered, orders: Any, stocked: Any
) -> None:
    await stocked("main", LAMP=5)
    created = orders.created(LAMP=1)

    await deliver(created.model_copy(update={"lines": created.lines * 2}))

    [reserved] = await logged(StockReserved)
    assert reserved.lines == TWO_LAMPS


async def test_an_order_may_be_filled_from_two_warehouses_and_come_back_to_both(
    deliver: Delivered, orders: Any, stocked: Any, shelf_of: Any
) -> None:
    await stocked("main", LAMP=3)
    await stocked("north", LAMP=2)
    created = orders.created(LAMP=4)

    await deliver(created)
    assert await shelf_of("LAMP", "main") == (3, 0, 3, 0)
    assert await shelf_of("LAMP", "north") == (2, 1, 1, 0)

    await deliver(orders.cancelled(created.order_id))
    assert await shelf_of("LAMP", "main") == (3, 3, 0, 0)
    assert await shelf_of("LAMP", "north") == (2, 2, 0, 0)


async def test_a_cancelled_order_gives_its_stock_back_once(
    deliver: Delivered, orders: Any, stocked: Any, shelf_of: Any, status_of: StatusOf
) -> None:
    await stocked("main", LAMP=5)
    created = orders.created(LAMP=2)
    await deliver(created)

    await deliver(orders.cancelled(created.order_id))

    [released] = await logged(StockReleased)
    assert (released.order_id, released.lines) == (created.order_id, TWO_LAMPS)
    assert await shelf_of("LAMP") == (5, 5, 0, 0)
    assert await status_of(created.order_id) == "released"


@pytest.mark.parametrize("status", [OrderStatus.SHIPPED, OrderStatus.DELIVERED])
async def test_a_shipped_order_takes_its_stock_out_of_the_house(
    deliver: Delivered, orders: Any, stocked: Any, shelf_of: Any, status: OrderStatus
) -> None:
    await stocked("main", LAMP=5)
    created = orders.created(LAMP=2)
    await deliver(created)

    await deliver(orders.moved(created.order_id, status))

    assert await shelf_of("LAMP") == (5, 3, 0, 2)


async def test_shipped_and_then_delivered_dispatches_once(
    deliver: Delivered, orders: Any, stocked: Any, shelf_of: Any
) -> None:
    await stocked("main", LAMP=5)
    created = orders.created(LAMP=2)
    await deliver(created)

    await deliver(
        orders.moved(created.order_id, OrderStatus.SHIPPED),
        orders.moved(created.order_id, OrderStatus.DELIVERED),
    )
    await deliver(orders.moved(created.order_id, OrderStatus.DELIVERED))

    assert await shelf_of("LAMP") == (5, 3, 0, 2)


async def test_an_order_that_is_being_processed_keeps_its_reservation(
    deliver: Delivered, orders: Any, stocked: Any, shelf_of: Any
) -> None:
    await stocked("main", LAMP=5)
    created = orders.created(LAMP=2)
    await deliver(created)

    await deliver(orders.moved(created.order_id, OrderStatus.PROCESSING))

    assert await shelf_of("LAMP") == (5, 3, 2, 0)


async def test_a_cancellation_that_overtakes_the_order_leaves_nothing_to_reserve(
    deliver: Delivered, orders: Any, stocked: Any, shelf_of: Any
) -> None:
    await stocked("main", LAMP=5)
    created = orders.created(LAMP=2)

    await deliver(orders.cancelled(created.order_id))
    await deliver(created)

    assert await shelf_of("LAMP") == (5, 5, 0, 0)
    assert await logged(StockReserved) == []
    assert await logged(StockReleased) == []


async def test_a_dispatch_that_overtakes_the_order_is_done_with_it(
    deliver: Delivered, orders: Any, stocked: Any, shelf_of: Any, status_of: StatusOf
) -> None:
    await stocked("main", LAMP=5)
    created = orders.created(LAMP=2)

    await deliver(orders.moved(created.order_id, OrderStatus.DELIVERED))
    await deliver(created)

    assert await shelf_of("LAMP") == (5, 3, 0, 2)
    assert await status_of(created.order_id) == "dispatched"
    assert len(await logged(StockReserved)) == 1


@pytest.mark.parametrize("last", ["cancelled", "shipped"])
async def test_facts_in_any_order_come_to_the_same_stock(
    deliver: Delivered, orders: Any, stocked: Any, shelf_of: Any, last: str
) -> None:
    await stocked("main", LAMP=100)
    arrivals = list(permutations(["created", "created again", last, f"{last} again"]))

    for arrival in arrivals:
        order_id = new_id()
        for fact in arrival:
            match fact.split()[0]:
                case "created":
                    await deliver(orders.created(order_id, LAMP=1))
                case "cancelled":
                    await deliver(orders.cancelled(order_id))
                case _:
                    await deliver(orders.moved(order_id, OrderStatus.SHIPPED))

    gone = len(arrivals) if last == "shipped" else 0
    assert await shelf_of("LAMP") == (100, 100 - gone, 0, gone)


async def test_a_creation_told_again_publishes_the_reservation_again(
    deliver: Delivered, orders: Any, stocked: Any, shelf_of: Any
) -> None:
    await stocked("main", LAMP=5)
    created = orders.created(LAMP=2)
    await deliver(created)

    await deliver(created)

    first, second = await logged(StockReserved)
    assert first == second
    assert await shelf_of("LAMP") == (5, 3, 2, 0)


async def test_a_creation_told_again_publishes_the_rejection_again_even_if_stock_came(
    deliver: Delivered, orders: Any, stocked: Any, shelf_of: Any
) -> None:
    created = orders.created(LAMP=2)
    await deliver(created)
    await stocked("main", LAMP=5)

    await deliver(created)

    first, second = await logged(StockRejected)
    assert first == second
    assert await shelf_of("LAMP") == (5, 5, 0, 0)


async def test_a_cancellation_told_again_publishes_the_release_again(
    deliver: Delivered, orders: Any, stocked: Any, shelf_of: Any
) -> None:
    await stocked("main", LAMP=5)
    created = orders.created(LAMP=2)
    await deliver(created)
    await deliver(orders.cancelled(created.order_id))

    await deliver(orders.cancelled(created.order_id))
    await deliver(created)

    assert len(await logged(StockReleased)) == 3
    assert len(await logged(StockReserved)) == 1
    assert await shelf_of("LAMP") == (5, 5, 0, 0)


async def test_a_rejected_order_that_is_cancelled_releases_nothing(
    deliver: Delivered, orders: Any, status_of: StatusOf
) -> None:
    created = orders.created(LAMP=2)
    await deliver(created)

    await deliver(orders.cancelled(created.order_id))

    assert await logged(StockReleased) == []
    assert await status_of(created.order_id) == "rejected"


async def test_low_stock_is_told_on_the_way_down_only(
    deliver: Delivered, orders: Any, stocked: Any
) -> None:
    await stocked("main", threshold=3, LAMP=5)
    await deliver(orders.created(LAMP=1))
    assert await logged(LowStock) == []

    crossing = orders.created(LAMP=1)
    await deliver(crossing)
    await deliver(orders.created(LAMP=1))
    assert [(e.sku, e.available, e.threshold) for e in await logged(LowStock)] == [("LAMP", 3, 3)]

    await deliver(orders.cancelled(crossing.order_id))
    assert len(await logged(LowStock)) == 1


async def test_a_new_product_is_known_with_no_stock_and_an_old_one_stays_as_it_is(
    deliver: Delivered, client: Any, stocked: Any
) -> None:
    await stocked("main", threshold=2, LAMP=5)

    await deliver(*(_product(sku) for sku in ("LAMP", "MUG", "MUG")))

    assert (await client.get("/inventory/LAMP")).json() == {
        "sku": "LAMP",
        "available": 5,
        "reserved": 0,
        "low_stock_threshold": 2,
    }
    assert (await client.get("/inventory/MUG")).json()["available"] == 0


def _product(sku: str) -> ProductUpdated:
    return ProductUpdated(
        sku=sku,
        product_version=1,
        name=sku.title(),
        category="home",
        price=100,
        currency="EUR",
        active=True,
        occurred_at=datetime.now(UTC),
    )


@pytest.mark.parametrize("quantity", [0, -1])
async def test_an_order_for_less_than_a_unit_goes_to_the_desk_and_its_neighbours_are_served(
    deliver: Delivered, orders: Any, stocked: Any, shelf_of: Any, quantity: int
) -> None:
    await stocked("main", LAMP=5)
    batch = [orders.created(LAMP=1), orders.created(LAMP=quantity), orders.created(LAMP=1)]
    entries = [as_entry("order.created", event.model_dump(mode="json")) for event in batch]

    assert await deliver.raw("order.created", entries) == ["SUCCESS"] * 3

    [letter] = await dead_letters()
    assert "UnfillableOrder" in letter.reason
    assert await shelf_of("LAMP") == (5, 3, 2, 0)


async def test_an_order_for_a_sku_that_cannot_be_written_down_goes_to_the_desk(
    deliver: Delivered, orders: Any
) -> None:
    created = orders.created(**{"LA\x00MP": 1})
    entry = as_entry("order.created", created.model_dump(mode="json"))

    assert await deliver.raw("order.created", [entry]) == ["SUCCESS"]

    assert len(await dead_letters()) == 1


async def test_an_order_for_more_than_there_can_ever_be_is_rejected(
    deliver: Delivered, orders: Any, stocked: Any
) -> None:
    await stocked("main", LAMP=5)

    await deliver(orders.created(LAMP=10**30))

    [rejected] = await logged(StockRejected)
    assert rejected.shortages[0].requested == 10**30


async def test_reservations_are_counted_by_outcome(
    deliver: Delivered, orders: Any, stocked: Any
) -> None:
    await stocked("main", LAMP=2)
    before = {outcome: _counted(outcome) for outcome in _OUTCOMES}
    cancelled, shipped, rejected = (orders.created(LAMP=1) for _ in range(3))

    await deliver(cancelled, shipped, rejected)
    await deliver(orders.cancelled(cancelled.order_id))
    await deliver(orders.moved(shipped.order_id, OrderStatus.SHIPPED))

    rise = {outcome: _counted(outcome) - before[outcome] for outcome in _OUTCOMES}
    assert rise == {"reserved": 2, "rejected": 1, "released": 1, "dispatched": 1}


_OUTCOMES = ("reserved", "rejected", "released", "dispatched")


def _counted(outcome: str) -> float:
    return REGISTRY.get_sample_value("stock_reservations_total", {"outcome": outcome}) or 0
