"""The HTTP contract of `notifications`."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from chassis.testing import Delivered, bearer
from contracts.inventory import LowStock
from contracts.orders import OrderCreated
from contracts.payments import PaymentSucceeded
from contracts.users import UserRegistered
from notifications.sending import send_waiting

pytestmark = pytest.mark.usefixtures("db", "mail_server")


async def test_users_see_what_they_were_told_the_newest_first(
    client: httpx.AsyncClient, deliver: Delivered, make: Callable[..., Any]
) -> None:
    user_id = uuid4()
    await deliver(make(UserRegistered, user_id=user_id))
    await send_waiting()
    await deliver(make(OrderCreated, user_id=user_id))
    await deliver(make(OrderCreated, user_id=uuid4(), order_id=uuid4()))
    await deliver(make(LowStock))

    reply = await client.get("/notifications", headers=bearer(user_id))

    assert reply.status_code == 200, reply.text
    page = reply.json()
    assert (page["total"], page["page"], page["page_size"]) == (2, 1, 20)
    [confirmed, welcome] = page["items"]
    assert (confirmed["template"], confirmed["status"]) == ("order_confirmed", "pending")
    assert (welcome["template"], welcome["status"]) == ("welcome", "sent")
    assert confirmed["sent_at"] is None
    assert welcome["sent_at"] is not None


async def test_the_list_can_be_of_one_order(
    client: httpx.AsyncClient, deliver: Delivered, make: Callable[..., Any]
) -> None:
    user_id, order_id = uuid4(), uuid4()
    await deliver(make(OrderCreated, user_id=user_id))
    await deliver(make(OrderCreated, user_id=user_id, order_id=order_id))
    await deliver(make(PaymentSucceeded, user_id=user_id, order_id=order_id))

    query = {"order_id": str(order_id)}
    reply = await client.get("/notifications", params=query, headers=bearer(user_id))

    told = [(item["template"], item["order_id"]) for item in reply.json()["items"]]
    assert told == [("payment_received", str(order_id)), ("order_confirmed", str(order_id))]


async def test_the_list_comes_in_pages(
    client: httpx.AsyncClient, deliver: Delivered, make: Callable[..., Any]
) -> None:
    user_id = uuid4()
    orders = [make(OrderCreated, user_id=user_id, order_id=uuid4()) for _ in range(5)]
    await deliver(*orders)

    seen: list[str] = []
    for page in (1, 2, 3):
        query = {"page": page, "page_size": 2}
        reply = await client.get("/notifications", params=query, headers=bearer(user_id))
        assert reply.json()["total"] == 5
        seen += [item["order_id"] for item in reply.json()["items"]]

    assert sorted(seen) == sorted(str(order.order_id) for order in orders)


async def test_the_list_needs_a_token(client: httpx.AsyncClient) -> None:
    assert (await client.get("/notifications")).status_code == 401


@pytest.mark.parametrize("query", [{"page": 0}, {"page_size": 101}, {"order_id": "x"}])
async def test_the_list_is_bounded(client: httpx.AsyncClient, query: dict[str, Any]) -> None:
    reply = await client.get("/notifications", params=query, headers=bearer(uuid4()))

    assert reply.status_code == 422
    assert reply.json()["errors"][0]["field"] == next(iter(query))
