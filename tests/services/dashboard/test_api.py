"""The HTTP contract of `dashboard`: the page, the snapshot behind it and the journeys."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from chassis.testing import Delivered
from contracts.catalog import ProductUpdated
from contracts.inventory import LowStock
from contracts.orders import (
    Address,
    CancellationReason,
    OrderCancelled,
    OrderCreated,
    OrderStatus,
    OrderStatusChanged,
)
from contracts.payments import PaymentRefunded, PaymentSucceeded
from contracts.tracking import ShipmentCreated

EMAIL = "anna@example.com"


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC)


def created(at: datetime, order_id: UUID | None = None, currency: str = "EUR") -> OrderCreated:
    return OrderCreated(
        order_id=order_id or uuid4(),
        order_version=1,
        user_id=uuid4(),
        occurred_at=at,
        lines=(),
        total=9_800,
        currency=currency,
        shipping_address=Address(line1=EMAIL, city="Oslo", postal_code="0150", country="NO"),
        payment_method="pm_card_ok",
    )


def about(order: OrderCreated, seconds: float, **fields: Any) -> dict[str, Any]:
    at = order.occurred_at + timedelta(seconds=seconds)
    return {"order_id": order.order_id, "user_id": order.user_id, "occurred_at": at, **fields}


def moved(order: OrderCreated, status: OrderStatus) -> OrderStatusChanged:
    fields = about(order, 1, order_version=2, status=status, previous_status=OrderStatus.PENDING)
    return OrderStatusChanged(**fields)


def cancelled(order: OrderCreated) -> OrderCancelled:
    fields = about(order, 1, order_version=2, total=9_800, currency="EUR")
    return OrderCancelled(**fields, reason=CancellationReason.REQUESTED)


def paid(order: OrderCreated, amount: int) -> PaymentSucceeded:
    fields = about(order, 1, payment_id=uuid4(), amount=amount, currency=order.currency)
    return PaymentSucceeded(**fields)


def tracked(order: OrderCreated, seconds: float) -> ShipmentCreated:
    fields = about(order, seconds, shipment_id=uuid4(), tracking_number="WB0123456789")
    return ShipmentCreated(**fields)


async def snapshot(client: httpx.AsyncClient) -> Any:
    reply = await client.get("/api/snapshot")
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_before_anything_has_happened_the_snapshot_is_empty(
    client: httpx.AsyncClient,
) -> None:
    shown = await snapshot(client)

    assert shown["orders"] == dict.fromkeys(OrderStatus, 0)
    assert shown["figures"] == {
        "orders": 0,
        "paid": [],
        "seconds_to_tracking_number": None,
        "cancelled_share": None,
    }
    assert (shown["stock_at_risk"], shown["feed"]) == ([], [])


async def test_open_orders_of_any_age_are_counted_and_ended_ones_for_a_day(
    client: httpx.AsyncClient, deliver: Delivered, now: datetime
) -> None:
    fresh, stuck, old = (
        created(now),
        created(now - timedelta(days=9)),
        created(now - timedelta(days=2)),
    )
    await deliver(fresh, stuck, old)
    await deliver(moved(fresh, OrderStatus.DELIVERED), moved(old, OrderStatus.DELIVERED))

    shown = await snapshot(client)

    assert shown["orders"]["pending"] == 1
    assert shown["orders"]["delivered"] == 1
    assert shown["figures"]["orders"] == 1


async def test_what_was_refunded_does_not_count_as_paid(
    client: httpx.AsyncClient, deliver: Delivered, now: datetime
) -> None:
    kept, returned, dollars = created(now), created(now), created(now, currency="USD")
    refund = about(returned, 2, payment_id=uuid4(), refund_id=uuid4(), amount=700, currency="EUR")
    await deliver(kept, returned, dollars)
    await deliver(paid(kept, 9_800), paid(returned, 1_000), paid(dollars, 500))
    await deliver(PaymentRefunded(**refund, refunded_total=700))

    shown = await snapshot(client)

    assert shown["figures"]["paid"] == [
        {"amount": 10_100, "currency": "EUR"},
        {"amount": 500, "currency": "USD"},
    ]


async def test_the_time_to_a_tracking_number_is_the_mean_of_the_orders_that_have_one(
    client: httpx.AsyncClient, deliver: Delivered, now: datetime
) -> None:
    quick, slow, waiting = created(now), created(now), created(now)
    await deliver(tracked(quick, 1), tracked(slow, 4))
    await deliver(quick, slow, waiting)

    shown = await snapshot(client)

    assert shown["figures"]["seconds_to_tracking_number"] == pytest.approx(2.5)


async def test_the_cancelled_share_is_of_the_orders_placed(
    client: httpx.AsyncClient, deliver: Delivered, now: datetime
) -> None:
    orders = [created(now) for _ in range(4)]
    await deliver(*orders)
    await deliver(cancelled(orders[0]))

    assert (await snapshot(client))["figures"]["cancelled_share"] == 0.25


async def test_orders_are_counted_in_the_bucket_of_their_placing(
    client: httpx.AsyncClient, deliver: Delivered, now: datetime
) -> None:
    recent, earlier = created(now - timedelta(seconds=1)), created(now - timedelta(minutes=30))
    await deliver(recent, earlier)
    await deliver(cancelled(earlier))

    fine, coarse = (await snapshot(client))["rates"]

    assert (fine["bucket_seconds"], coarse["bucket_seconds"]) == (5, 60)
    assert sum(fine["placed"]) == 1
    assert sum(coarse["placed"]) == 2
    at = coarse["cancelled"].index(1)
    begins = datetime.fromisoformat(coarse["start"]) + timedelta(minutes=at)
    assert begins <= earlier.occurred_at < begins + timedelta(minutes=1)


def low(sku: str, available: int, at: datetime) -> LowStock:
    return LowStock(sku=sku, available=available, threshold=10, occurred_at=at)


async def test_stock_at_risk_names_the_emptiest_shelf_first_and_no_withdrawn_product(
    client: httpx.AsyncClient, deliver: Delivered, now: datetime
) -> None:
    withdrawn = ProductUpdated(
        sku="RUG",
        product_version=1,
        name="Rug",
        category="home",
        price=1,
        currency="EUR",
        active=False,
        occurred_at=now,
    )
    await deliver(low("LAMP", 4, now), low("MUG", 0, now), low("RUG", 1, now))
    await deliver(low("OLD", 1, now - timedelta(days=2)))
    await deliver(
        withdrawn, withdrawn.model_copy(update={"sku": "MUG", "name": "Mug", "active": True})
    )

    shown = await snapshot(client)

    assert [(s["sku"], s["name"], s["available"]) for s in shown["stock_at_risk"]] == [
        ("MUG", "Mug", 0),
        ("LAMP", None, 4),
    ]


async def test_the_feed_shows_the_newest_event_first_and_no_personal_data(
    client: httpx.AsyncClient, deliver: Delivered, now: datetime
) -> None:
    order = created(now)
    await deliver(order)
    await deliver(moved(order, OrderStatus.PROCESSING))

    shown = await snapshot(client)

    assert [line["phrase"] for line in shown["feed"]] == [
        "Order now processing",
        "Order placed: 0 items",
    ]
    assert EMAIL not in str(shown)
    assert str(order.user_id) not in str(shown)


async def test_a_journey_tells_an_order_s_steps_in_the_order_they_happened(
    client: httpx.AsyncClient, deliver: Delivered, now: datetime
) -> None:
    order = created(now)
    await deliver(tracked(order, 2))
    await deliver(paid(order, 9_800))
    await deliver(order)

    reply = await client.get(f"/api/orders/{order.order_id}")

    journey = reply.json()
    assert [step["topic"] for step in journey["steps"]] == [
        "order.created",
        "payment.succeeded",
        "shipment.created",
    ]
    assert (journey["total"], journey["paid"], journey["tracking_number"]) == (
        9_800,
        9_800,
        "WB0123456789",
    )


@pytest.mark.parametrize(("order", "status"), [(uuid4(), 404), ("not-an-id", 422)])
async def test_a_journey_that_is_not_there_is_a_problem(
    client: httpx.AsyncClient, order: UUID | str, status: int
) -> None:
    reply = await client.get(f"/api/orders/{order}")

    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/problem+json"


async def test_the_page_may_load_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    reply = await client.get("/")

    assert reply.status_code == 200
    policy = reply.headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    assert "://" not in reply.text


async def test_the_page_has_a_place_for_every_status(client: httpx.AsyncClient) -> None:
    page = (await client.get("/")).text

    assert all(f'id="count-{status}"' in page for status in OrderStatus)


@pytest.mark.parametrize("name", ["dashboard.js", "chart.js", "dashboard.css", "icon.svg"])
async def test_assets_are_asked_for_anew(client: httpx.AsyncClient, name: str) -> None:
    reply = await client.get(f"/static/{name}")

    assert reply.status_code == 200
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["etag"]
