"""What reported stock, payments and parcels do to an order; every batch is delivered twice."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from chassis.database import database
from chassis.testing import Delivered, StandInSidecar, as_entry, bearer, dead_letters, logged
from contracts.catalog import ProductUpdated
from contracts.inventory import Shortage, StockRejected, StockReserved
from contracts.orders import OrderCancelled, OrderCreated, OrderStatusChanged
from contracts.payments import PaymentFailed, PaymentRefunded, PaymentSucceeded
from contracts.tracking import ShipmentCreated, ShipmentStatus, ShipmentUpdated, ShipmentVoided
from orders.domain import Order
from sqlalchemy import select

NOW = datetime.now(UTC)
USER = uuid4()


@pytest.fixture
async def order_ids(client: httpx.AsyncClient) -> Sequence[UUID]:
    for _ in range(3):
        body = {
            "items": [{"sku": "LAMP", "quantity": 1}],
            "shipping_address": {"line1": "1", "city": "O", "postal_code": "1", "country": "NO"},
            "payment_method": "pm_card_ok",
        }
        headers = bearer(USER) | {"Idempotency-Key": str(uuid4())}
        assert (await client.post("/orders", json=body, headers=headers)).status_code == 201
    return [created.order_id for created in await logged(OrderCreated)]


async def read(order_id: UUID) -> Order:
    async with database.transaction() as session:
        return (await session.scalars(select(Order).where(Order.id == order_id))).one()


def payment(order_id: UUID) -> dict[str, Any]:
    return {
        "payment_id": uuid4(),
        "order_id": order_id,
        "user_id": USER,
        "amount": 4_900,
        "currency": "EUR",
        "occurred_at": NOW,
    }


def shipment(order_id: UUID) -> dict[str, Any]:
    return {"order_id": order_id, "user_id": USER, "occurred_at": NOW, "shipment_id": uuid4()}


def scan(order_id: UUID, status: ShipmentStatus) -> ShipmentUpdated:
    return ShipmentUpdated(
        **shipment(order_id), status=status, shipment_version=2, tracking_number="WB1"
    )


async def test_a_paid_order_is_processed(order_ids: Sequence[UUID], deliver: Delivered) -> None:
    await deliver(*(PaymentSucceeded(**payment(order_id)) for order_id in order_ids))

    assert {(await read(order_id)).status for order_id in order_ids} == {"processing"}
    changes = await logged(OrderStatusChanged)
    assert {change.order_id for change in changes} == set(order_ids)
    assert len(changes) == len(order_ids)


async def test_a_reservation_is_noted(order_ids: Sequence[UUID], deliver: Delivered) -> None:
    await deliver(StockReserved(order_id=order_ids[0], occurred_at=NOW, lines=()))
    noted = await read(order_ids[0])
    assert noted.stock_reserved_at == NOW
    assert noted.updated_at > noted.created_at

    await deliver(StockReserved(order_id=order_ids[0], occurred_at=NOW, lines=()))
    assert (await read(order_ids[0])).updated_at == noted.updated_at


@pytest.mark.parametrize("failure", ["stock", "payment"])
async def test_an_order_that_cannot_be_fulfilled_is_cancelled(
    order_ids: Sequence[UUID], deliver: Delivered, failure: str
) -> None:
    shortage = Shortage(sku="LAMP", requested=1, available=0)
    rejected = StockRejected(order_id=order_ids[0], occurred_at=NOW, shortages=(shortage,))
    failed = PaymentFailed(**payment(order_ids[0]), reason="card_declined")
    await deliver(rejected if failure == "stock" else failed)

    assert (await read(order_ids[0])).status == "cancelled"
    [cancelled] = await logged(OrderCancelled)
    assert cancelled.reason == ("out_of_stock" if failure == "stock" else "payment_failed")
    assert await logged(OrderStatusChanged) == []


async def test_a_cancelled_order_stays_cancelled(
    order_ids: Sequence[UUID], deliver: Delivered
) -> None:
    order_id = order_ids[0]
    await deliver(PaymentFailed(**payment(order_id), reason="card_declined"))
    await deliver(PaymentSucceeded(**payment(order_id)))
    await deliver(scan(order_id, ShipmentStatus.DELIVERED))
    await deliver(ShipmentVoided(**shipment(order_id)))

    assert (await read(order_id)).status == "cancelled"
    assert len(await logged(OrderCancelled)) == 1


async def test_an_order_follows_its_parcel_and_never_backwards(
    order_ids: Sequence[UUID], deliver: Delivered
) -> None:
    order_id = order_ids[0]
    await deliver(PaymentSucceeded(**payment(order_id)))
    await deliver(ShipmentCreated(**shipment(order_id), tracking_number="WB1"))
    await deliver(scan(order_id, ShipmentStatus.CREATED))
    assert (await read(order_id)).status == "processing"
    await deliver(scan(order_id, ShipmentStatus.IN_TRANSIT))
    assert (await read(order_id)).status == "shipped"
    await deliver(
        scan(order_id, ShipmentStatus.DELIVERED), scan(order_id, ShipmentStatus.PICKED_UP)
    )

    order = await read(order_id)
    assert (order.status, order.tracking_number) == ("delivered", "WB1")
    statuses = [change.status for change in await logged(OrderStatusChanged)]
    assert statuses == ["processing", "shipped", "delivered"]


@pytest.mark.parametrize(
    ("parcel", "order_becomes"), [("voided", "cancelled"), ("left", "shipped")]
)
async def test_tracking_decides_a_cancellation(
    client: httpx.AsyncClient,
    order_ids: Sequence[UUID],
    deliver: Delivered,
    parcel: str,
    order_becomes: str,
) -> None:
    order_id = order_ids[0]
    await deliver(PaymentSucceeded(**payment(order_id)))
    assert (await client.delete(f"/orders/{order_id}", headers=bearer(USER))).status_code == 202
    if parcel == "voided":
        await deliver(ShipmentVoided(**shipment(order_id)))
    else:
        await deliver(scan(order_id, ShipmentStatus.IN_TRANSIT))
    assert (await read(order_id)).status == order_becomes


async def test_a_refund_is_counted_once(order_ids: Sequence[UUID], deliver: Delivered) -> None:
    refund = PaymentRefunded(**payment(order_ids[0]), refund_id=uuid4(), refunded_total=4_900)
    await deliver(refund)
    assert (await read(order_ids[0])).refunded == 4_900


LAMP = ProductUpdated(
    sku="LAMP",
    product_version=2,
    name="Lamp",
    category="home",
    price=1,
    currency="EUR",
    active=True,
    occurred_at=NOW,
)


@pytest.mark.usefixtures("order_ids")
async def test_a_changed_product_leaves_the_shared_cache(
    deliver: Delivered, stand_in: StandInSidecar
) -> None:
    assert "product:LAMP" in stand_in.state
    await deliver(LAMP)
    assert "product:LAMP" not in stand_in.state


async def test_a_cache_that_is_away_holds_up_no_event(
    deliver: Delivered, stand_in: StandInSidecar
) -> None:
    stand_in.away = True
    await deliver(LAMP)


async def test_poison_stands_alone_and_its_neighbours_take_effect(
    order_ids: Sequence[UUID], deliver: Delivered
) -> None:
    topic = PaymentSucceeded.topic
    good = [as_entry(topic, _json(PaymentSucceeded(**payment(i)))) for i in order_ids]
    unknown = as_entry(topic, _json(PaymentSucceeded(**payment(uuid4()))))
    shapeless = as_entry(topic, {"order_id": "?"})
    not_an_event = {"entryId": "x", "event": "rubbish"}
    entries = [good[0], shapeless, good[1], unknown, not_an_event, good[2]]

    assert await deliver.raw(topic, entries) == ["SUCCESS"] * len(entries)
    assert {(await read(order_id)).status for order_id in order_ids} == {"processing"}
    assert len(await dead_letters()) == 3


def _json(event: PaymentSucceeded) -> dict[str, Any]:
    return event.model_dump(mode="json")


async def test_only_the_sidecar_may_deliver(client: httpx.AsyncClient) -> None:
    for token in ({}, {"dapr-api-token": "guess"}):
        reply = await client.post("/events", json={"entries": []}, headers=token)
        assert reply.status_code == 403
        dead = await client.post("/events/dead-letters", json={}, headers=token)
        assert dead.status_code == 403
