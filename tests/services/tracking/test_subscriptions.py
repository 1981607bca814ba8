"""What `tracking` makes of the events of orders, in any order and however often they come."""

from collections.abc import Callable
from itertools import permutations
from typing import Any
from uuid import uuid4

import httpx
import pytest
from chassis.identity import Role
from chassis.testing import Delivered, bearer, logged
from contracts import Event
from contracts.orders import OrderStatus
from contracts.tracking import ShipmentCreated, ShipmentStatus, ShipmentUpdated, ShipmentVoided

CARRIER = bearer(uuid4(), Role.CARRIER)


async def _pick_up(client: httpx.AsyncClient, shipment: ShipmentCreated) -> None:
    reply = await client.post(
        f"/shipments/{shipment.shipment_id}/events",
        json={"status": "picked_up", "location": "Oslo"},
        headers=CARRIER | {"Idempotency-Key": str(uuid4())},
    )
    assert reply.status_code == 201, reply.text


async def test_an_order_in_processing_gets_a_shipment(order: Any, deliver: Delivered) -> None:
    await deliver(order.created())
    assert await logged(ShipmentCreated) == []

    await deliver(order.processing())

    [created] = await logged(ShipmentCreated)
    assert (created.order_id, created.user_id) == (order.id, order.user_id)


async def test_processing_may_overtake_the_creation(order: Any, deliver: Delivered) -> None:
    await deliver(order.processing())
    assert await logged(ShipmentCreated) == []

    await deliver(order.created())

    assert len(await logged(ShipmentCreated)) == 1


async def test_a_batch_makes_a_shipment_for_each_order(
    placed_order: Any, deliver: Delivered
) -> None:
    batch = [placed_order() for _ in range(20)]

    await deliver(*(order.created() for order in batch))
    await deliver(*(order.processing() for order in reversed(batch)))

    shipments = await logged(ShipmentCreated)
    assert {shipment.order_id for shipment in shipments} == {order.id for order in batch}
    assert len({shipment.tracking_number for shipment in shipments}) == 20


@pytest.mark.parametrize(
    "status", [OrderStatus.SHIPPED, OrderStatus.DELIVERED, OrderStatus.RETURNED]
)
async def test_no_other_status_asks_for_a_shipment(
    order: Any, deliver: Delivered, status: OrderStatus
) -> None:
    await deliver(order.created())
    await deliver(order.moved(status))

    assert await logged(ShipmentCreated) == []


async def test_events_told_again_publish_the_same_shipment_again(
    order: Any, shipment: ShipmentCreated, deliver: Delivered
) -> None:
    await deliver(order.processing())
    await deliver(order.created())

    assert await logged(ShipmentCreated) == [shipment] * 3


async def test_a_shipment_that_was_not_picked_up_is_voided_on_request(
    order: Any, shipment: ShipmentCreated, deliver: Delivered
) -> None:
    await deliver(order.cancellation_requested())

    [voided] = await logged(ShipmentVoided)
    assert (voided.order_id, voided.shipment_id) == (order.id, shipment.shipment_id)


async def test_a_request_told_again_publishes_the_answer_again(
    order: Any, shipment: ShipmentCreated, deliver: Delivered
) -> None:
    await deliver(order.cancellation_requested())
    await deliver(order.cancellation_requested())

    first, second = await logged(ShipmentVoided)
    assert first == second
    assert first.shipment_id == shipment.shipment_id


async def test_a_cancellation_that_follows_the_void_adds_nothing(
    order: Any, shipment: ShipmentCreated, deliver: Delivered
) -> None:
    await deliver(order.cancellation_requested())
    await deliver(order.cancelled())

    [voided] = await logged(ShipmentVoided)
    assert voided.shipment_id == shipment.shipment_id


async def test_a_request_that_comes_before_the_shipment_prevents_it(
    order: Any, deliver: Delivered
) -> None:
    await deliver(order.created())
    await deliver(order.cancellation_requested())
    await deliver(order.processing())

    assert await logged(ShipmentCreated) == []
    assert {(v.order_id, v.shipment_id) for v in await logged(ShipmentVoided)} == {(order.id, None)}


async def test_a_request_after_the_pick_up_is_too_late(
    order: Any, shipment: ShipmentCreated, deliver: Delivered, client: httpx.AsyncClient
) -> None:
    await _pick_up(client, shipment)

    await deliver(order.cancellation_requested())

    scanned, answer = await logged(ShipmentUpdated)
    assert answer.status == ShipmentStatus.PICKED_UP
    assert answer.shipment_version == scanned.shipment_version == 1
    assert await logged(ShipmentVoided) == []


async def test_a_request_told_again_after_the_pick_up_is_answered_again(
    order: Any, shipment: ShipmentCreated, deliver: Delivered, client: httpx.AsyncClient
) -> None:
    await _pick_up(client, shipment)

    await deliver(order.cancellation_requested())
    await deliver(order.cancellation_requested())

    _, first, second = await logged(ShipmentUpdated)
    assert first == second
    assert first.status == ShipmentStatus.PICKED_UP


async def test_an_order_cancelled_elsewhere_voids_its_shipment(
    order: Any, shipment: ShipmentCreated, deliver: Delivered
) -> None:
    await deliver(order.cancelled())

    [voided] = await logged(ShipmentVoided)
    assert voided.shipment_id == shipment.shipment_id


async def test_an_order_cancelled_elsewhere_cannot_call_its_parcel_back(
    order: Any, shipment: ShipmentCreated, deliver: Delivered, client: httpx.AsyncClient
) -> None:
    await _pick_up(client, shipment)

    await deliver(order.cancelled())

    assert await logged(ShipmentVoided) == []
    reply = await client.get(f"/tracking/{shipment.tracking_number}")
    assert reply.json()["status"] == "picked_up"


@pytest.mark.parametrize("end", ["cancelled", "cancellation_requested"])
async def test_a_cancelled_order_has_no_live_shipment_whatever_came_first(
    placed_order: Any, deliver: Delivered, client: httpx.AsyncClient, end: str
) -> None:
    for arrival in permutations(["created", "processing", end, end]):
        order = placed_order()
        for fact in arrival:
            event: Callable[[], Event] = getattr(order, fact)
            await deliver(event())

    listed = await client.get("/shipments", params={"page_size": 100}, headers=CARRIER)
    assert {item["status"] for item in listed.json()["items"]} == {"voided"}
