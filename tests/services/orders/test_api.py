"""The HTTP contract of `orders`."""

from typing import Any
from uuid import uuid4

import httpx
from chassis.testing import bearer, logged
from contracts.orders import OrderCreated

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


async def test_an_order_is_priced_by_the_server_and_announced(client: httpx.AsyncClient) -> None:
    reply = await client.post("/orders", json=ORDER, headers=bearer(uuid4()) | key())

    assert reply.status_code == 201, reply.text
    assert reply.json()["status"] == "pending"
    assert reply.json()["total"] == 2 * 4_900 + 1_250
    [created] = await logged(OrderCreated)
    assert str(created.order_id) == reply.json()["id"]
    assert created.total == reply.json()["total"]
