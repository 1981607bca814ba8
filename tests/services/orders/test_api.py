"""The HTTP contract of `orders`."""

from typing import Any, cast
from uuid import UUID, uuid4

import httpx
import pytest
from cachetools import TTLCache
from chassis.database import database
from chassis.identity import Role
from chassis.testing import StandInSidecar, bearer, logged
from contracts.orders import (
    OrderCancellationRequested,
    OrderCancelled,
    OrderCreated,
    OrderStatusChanged,
)
from orders import prices
from orders.domain import Order
from orders.prices import forget_everything
from sqlalchemy import func, select, update

ORDER: dict[str, Any] = {
    "items": [{"sku": "LAMP", "quantity": 2}, {"sku": "MUG", "quantity": 1}],
    "shipping_address": {
        "line1": "1 Long Lane",
        "city": "Oslo",
        "postal_code": "0150",
        "country": "NO",
    },
    "payment_method": "pm_card_ok",
}


def key(value: str | None = None) -> dict[str, str]:
    return {"Idempotency-Key": value or str(uuid4())}


async def placed(client: httpx.AsyncClient, user_id: UUID) -> dict[str, Any]:
    reply = await client.post("/orders", json=ORDER, headers=bearer(user_id) | key())
    assert reply.status_code == 201, reply.text
    return reply.json()


async def put_in(status: str, order: dict[str, Any]) -> None:
    async with database.transaction() as session:
        await session.execute(
            update(Order).where(Order.id == UUID(order["id"])).values(status=status)
        )


async def count_of_orders() -> int:
    async with database.transaction() as session:
        return await session.scalar(select(func.count()).select_from(Order)) or 0


async def test_an_order_is_priced_by_the_server_and_announced(client: httpx.AsyncClient) -> None:
    order = await placed(client, uuid4())

    assert order["status"] == "pending"
    assert order["total"] == 2 * 4_900 + 1_250
    [created] = await logged(OrderCreated)
    assert str(created.order_id) == order["id"]
    assert created.total == order["total"]


async def test_a_repeated_key_gets_the_first_answer_and_places_nothing(
    client: httpx.AsyncClient,
) -> None:
    headers = bearer(uuid4()) | key()
    first = await client.post("/orders", json=ORDER, headers=headers)
    again = await client.post("/orders", json=ORDER, headers=headers)

    assert again.status_code == 201
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    assert await count_of_orders() == 1
    assert len(await logged(OrderCreated)) == 1


async def test_a_key_reused_for_another_order_is_refused(client: httpx.AsyncClient) -> None:
    headers = bearer(uuid4()) | key()
    await client.post("/orders", json=ORDER, headers=headers)
    other = {**ORDER, "items": [{"sku": "MUG", "quantity": 9}]}
    reply = await client.post("/orders", json=other, headers=headers)

    assert reply.status_code == 422
    assert reply.json()["type"] == "urn:waybill:problem:idempotency-key-reused"
    assert await count_of_orders() == 1


async def test_a_key_belongs_to_its_user(client: httpx.AsyncClient) -> None:
    shared = key()
    for _ in range(2):
        reply = await client.post("/orders", json=ORDER, headers=bearer(uuid4()) | shared)
        assert reply.status_code == 201
    assert await count_of_orders() == 2


def changed(**fields: Any) -> dict[str, Any]:
    return {**ORDER, **fields}


def quantity(value: Any) -> dict[str, Any]:
    return changed(items=[{"sku": "LAMP", "quantity": value}])


ADDRESS = ORDER["shipping_address"]


@pytest.mark.parametrize(
    ("body", "field", "rule"),
    [
        (quantity(0), "items.0.quantity", "greater_than_equal"),
        (
            changed(items=[{"sku": "LAMP", "quantity": -1}]),
            "items.0.quantity",
            "greater_than_equal",
        ),
        (
            changed(items=[{"sku": "LAMP", "quantity": 10**9}]),
            "items.0.quantity",
            "less_than_equal",
        ),
        (
            changed(items=[{"sku": "LAMP", "quantity": 10**30}]),
            "items.0.quantity",
            "less_than_equal",
        ),
        (quantity("2"), "items.0.quantity", "int_type"),
        (quantity(1.5), "items.0.quantity", "int_type"),
        (changed(items=[]), "items", "too_short"),
        (changed(items=[{"sku": "MUG", "quantity": 1}] * 2), "items", "value_error"),
        (changed(items=[{"sku": "GHOST", "quantity": 1}]), "items.0.sku", "known_product"),
        (changed(payment_method="4242424242424242"), "payment_method", "string_pattern_mismatch"),
        (changed(shipping_address=None), "shipping_address", "model_attributes_type"),
        (
            changed(shipping_address={**ADDRESS, "country": "Norway"}),
            "shipping_address.country",
            "string_pattern_mismatch",
        ),
        (
            changed(shipping_address={**ADDRESS, "city": "x\x00y"}),
            "shipping_address.city",
            "string_pattern_mismatch",
        ),
        ({}, "items", "missing"),
        ([], "body", "model_attributes_type"),
    ],
)
async def test_bad_input_names_the_field_and_the_rule_and_leaves_nothing(
    client: httpx.AsyncClient, body: Any, field: str, rule: str
) -> None:
    reply = await client.post("/orders", json=body, headers=bearer(uuid4()) | key())

    assert reply.status_code == 422, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert {"field": field, "rule": rule}.items() <= reply.json()["errors"][0].items()
    assert await count_of_orders() == 0
    assert await logged(OrderCreated) == []


async def test_malformed_json_is_told_apart_from_a_wrong_order(client: httpx.AsyncClient) -> None:
    headers = bearer(uuid4()) | key() | {"Content-Type": "application/json"}
    reply = await client.post("/orders", content=b'{"items": [', headers=headers)

    assert reply.status_code == 400
    assert reply.json()["errors"][0]["rule"] == "json_invalid"


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_of_ten_megabytes_is_refused(
    client: httpx.AsyncClient, *, declared: bool
) -> None:
    async def chunks() -> Any:
        for _ in range(10):
            yield b" " * 1_000_000

    content: Any = b" " * 10_000_000 if declared else chunks()
    headers = bearer(uuid4()) | key() | {"Content-Type": "application/json"}
    reply = await client.post("/orders", content=content, headers=headers)

    assert reply.status_code == 413
    assert reply.headers["content-type"] == "application/problem+json"


async def test_an_order_needs_an_idempotency_key(client: httpx.AsyncClient) -> None:
    reply = await client.post("/orders", json=ORDER, headers=bearer(uuid4()))
    assert reply.status_code == 400
    assert "Idempotency-Key" in reply.json()["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer not-a-token"},
        {"Authorization": "Basic dXNlcjpwYXNz"},
        bearer(uuid4(), iss="somebody else"),
        bearer(uuid4(), aud="another platform"),
        bearer(uuid4(), exp=1),
        bearer(uuid4(), sub="root"),
        bearer(uuid4(), cast("Role", "emperor")),
    ],
)
async def test_a_missing_or_foreign_token_is_refused(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    reply = await client.post("/orders", json=ORDER, headers=headers | key())
    assert reply.status_code == 401, reply.text
    assert reply.headers["www-authenticate"] == "Bearer"
    assert await count_of_orders() == 0


async def test_without_catalog_no_order_is_taken(
    client: httpx.AsyncClient, stand_in: StandInSidecar
) -> None:
    stand_in.away = True
    reply = await client.post("/orders", json=ORDER, headers=bearer(uuid4()) | key())
    assert reply.status_code == 503
    assert reply.headers["retry-after"]
    assert await count_of_orders() == 0


async def test_prices_are_asked_for_once_and_then_cached(
    client: httpx.AsyncClient, stand_in: StandInSidecar
) -> None:
    for _ in range(3):
        await placed(client, uuid4())
    assert stand_in.calls == [("catalog", "internal/prices")]
    assert set(stand_in.state) == {"product:LAMP", "product:MUG"}


async def test_an_owner_reads_the_order_with_its_history(client: httpx.AsyncClient) -> None:
    owner = uuid4()
    order = await placed(client, owner)
    reply = await client.get(f"/orders/{order['id']}", headers=bearer(owner))

    assert reply.status_code == 200
    assert [entry["status"] for entry in reply.json()["history"]] == ["pending"]
    assert reply.json()["tracking_number"] is None


async def test_someone_elses_order_does_not_exist(client: httpx.AsyncClient) -> None:
    order = await placed(client, uuid4())
    stranger = bearer(uuid4())
    for method in ("GET", "DELETE"):
        reply = await client.request(method, f"/orders/{order['id']}", headers=stranger)
        assert reply.status_code == 404
    staff = await client.get(f"/orders/{order['id']}", headers=bearer(uuid4(), Role.STAFF))
    assert staff.status_code == 200


async def test_a_list_shows_own_orders_newest_first(client: httpx.AsyncClient) -> None:
    owner = uuid4()
    ids = [(await placed(client, owner))["id"] for _ in range(3)]
    await placed(client, uuid4())

    page = await client.get("/orders?page=1&page_size=2", headers=bearer(owner))
    assert page.json()["total"] == 3
    assert [order["id"] for order in page.json()["items"]] == [ids[2], ids[1]]
    everyone = await client.get("/orders?status=pending", headers=bearer(uuid4(), Role.STAFF))
    assert everyone.json()["total"] == 4
    too_large = await client.get("/orders?page_size=101", headers=bearer(owner))
    assert too_large.status_code == 422


async def test_orders_of_a_user_are_for_that_user_and_staff(client: httpx.AsyncClient) -> None:
    owner = uuid4()
    await placed(client, owner)
    for caller, status in [
        (bearer(owner), 200),
        (bearer(uuid4()), 403),
        (bearer(uuid4(), Role.STAFF), 200),
    ]:
        reply = await client.get(f"/orders/user/{owner}", headers=caller)
        assert reply.status_code == status


async def test_a_pending_order_is_cancelled_at_once(client: httpx.AsyncClient) -> None:
    owner = uuid4()
    order = await placed(client, owner)
    for _ in range(2):
        reply = await client.delete(f"/orders/{order['id']}", headers=bearer(owner))
        assert reply.status_code == 200
        assert reply.json()["status"] == "cancelled"
    assert len(await logged(OrderCancelled)) == 1
    assert await logged(OrderStatusChanged) == []


async def test_a_processing_order_is_cancelled_if_tracking_agrees(
    client: httpx.AsyncClient,
) -> None:
    owner = uuid4()
    order = await placed(client, owner)
    await put_in("processing", order)
    for _ in range(2):
        reply = await client.delete(f"/orders/{order['id']}", headers=bearer(owner))
        assert reply.status_code == 202
        assert reply.json()["status"] == "cancelling"
    assert len(await logged(OrderCancellationRequested)) == 1
    assert await logged(OrderCancelled) == []


@pytest.mark.parametrize("status", ["shipped", "delivered", "returned"])
async def test_a_shipped_order_cannot_be_cancelled(client: httpx.AsyncClient, status: str) -> None:
    owner = uuid4()
    order = await placed(client, owner)
    await put_in(status, order)
    reply = await client.delete(f"/orders/{order['id']}", headers=bearer(owner))
    assert reply.status_code == 409
    assert reply.json()["type"] == "urn:waybill:problem:order-already-shipped"


async def test_staff_make_legal_transitions_only(client: httpx.AsyncClient) -> None:
    order = await placed(client, uuid4())
    path = f"/orders/{order['id']}/status"
    staff = bearer(uuid4(), Role.STAFF)

    async def put(status: str, headers: dict[str, str] = staff) -> int:
        return (await client.put(path, json={"status": status}, headers=headers)).status_code

    assert await put("processing", bearer(uuid4())) == 403
    assert await put("delivered") == 409
    assert await put("processing") == 200
    assert await put("processing") == 200
    assert await put("lost") == 422
    assert await put("shipped") == 200
    assert await put("cancelled") == 409
    statuses = [event.status for event in await logged(OrderStatusChanged)]
    assert statuses == ["processing", "shipped"]


async def test_staff_cannot_cancel_past_tracking(client: httpx.AsyncClient) -> None:
    order = await placed(client, uuid4())
    await put_in("processing", order)
    for _ in range(2):
        reply = await client.put(
            f"/orders/{order['id']}/status",
            json={"status": "cancelled"},
            headers=bearer(uuid4(), Role.STAFF),
        )
        assert (reply.status_code, reply.json()["status"]) == (202, "cancelling")
    assert len(await logged(OrderCancellationRequested)) == 1
    assert await logged(OrderCancelled) == []


async def test_what_no_card_can_be_charged_is_refused(
    client: httpx.AsyncClient, stand_in: StandInSidecar
) -> None:
    prices = {"LAMP": 0, "MUG": 0}
    for total in (0, 100_000_000):
        forget_everything()
        stand_in.state.clear()
        prices["MUG"] = total
        products = [
            {"sku": sku, "name": sku, "price": price, "currency": "EUR"}
            for sku, price in prices.items()
        ]
        stand_in.answer("catalog", "internal/prices", {"products": products})
        reply = await client.post("/orders", json=ORDER, headers=bearer(uuid4()) | key())
        assert reply.status_code == 422
        assert reply.json()["type"] == "urn:waybill:problem:not-payable"
    assert await count_of_orders() == 0


async def test_a_price_in_memory_expires_however_often_it_is_asked_for(
    stand_in: StandInSidecar, app: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 0.0
    memory = TTLCache[str, prices.Product](10, ttl=prices.MEMORY_SECONDS, timer=lambda: clock)
    monkeypatch.setattr(prices, "_memory", memory)
    for _ in range(4):
        await prices.products(["LAMP"])
        stand_in.state.clear()
        clock += prices.MEMORY_SECONDS * 0.6
    assert len(stand_in.calls) == 2
