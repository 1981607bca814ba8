"""Orders are taken while those before them are got done, and not beyond."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from chassis.database import database
from chassis.testing import bearer
from contracts.orders import OrderStatus
from orders.backlog import Backlog, TooManyOrders
from orders.domain import Order
from sqlalchemy import func, update

ORDER: dict[str, Any] = {
    "items": [{"sku": "LAMP", "quantity": 1}],
    "shipping_address": {"line1": "1", "city": "Oslo", "postal_code": "0150", "country": "NO"},
    "payment_method": "pm_card_ok",
}


async def place(client: httpx.AsyncClient) -> httpx.Response:
    headers = {**bearer(uuid4()), "Idempotency-Key": str(uuid4())}
    return await client.post("/orders", json=ORDER, headers=headers)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Backlog:
    backlog = Backlog(most=2)
    monkeypatch.setattr("orders.backlog.backlog", backlog)
    return backlog


async def put(order: httpx.Response, **columns: Any) -> None:
    change = update(Order).where(Order.id == UUID(order.json()["id"])).values(**columns)
    async with database.transaction() as session:
        await session.execute(change)


async def test_past_the_bound_an_order_is_refused_for_a_moment(
    client: httpx.AsyncClient, small: Backlog
) -> None:
    placed = [await place(client) for _ in range(2)]
    refused = await place(client)
    assert refused.status_code == 503
    assert refused.headers["content-type"] == "application/problem+json"
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["type"] == "urn:waybill:problem:too-many-orders"
    assert (await client.get("/orders", headers=bearer(uuid4()))).status_code == 200

    await small.count()
    assert (await place(client)).status_code == 503  # they are still under way
    await put(placed[0], status=OrderStatus.PROCESSING, tracking_number="WB1")
    await small.count()
    assert (await place(client)).status_code == 201


@pytest.mark.parametrize(
    ("columns", "next_order"),
    [
        ({}, 503),
        ({"stock_reserved_at": func.now()}, 503),
        ({"stock_reserved_at": func.now() - timedelta(minutes=1)}, 201),  # waits for its customer
        ({"status": OrderStatus.PROCESSING}, 503),
        ({"status": OrderStatus.PROCESSING, "tracking_number": "WB1"}, 201),
        ({"status": OrderStatus.CANCELLED}, 201),
        ({"status": OrderStatus.DELIVERED}, 201),
    ],
)
async def test_under_way_is_what_waits_for_the_platform_and_not_for_a_person(
    client: httpx.AsyncClient, small: Backlog, columns: dict[str, Any], next_order: int
) -> None:
    for _ in range(2):
        order = await place(client)
        if columns:
            await put(order, **columns)
    await small.count()
    assert (await place(client)).status_code == next_order


async def test_what_is_stuck_does_not_shut_the_shop(
    client: httpx.AsyncClient, small: Backlog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orders.store._UNDER_WAY", timedelta(0))
    for _ in range(2):
        await place(client)
    await small.count()
    assert (await place(client)).status_code == 201


async def test_a_refused_order_takes_no_place(client: httpx.AsyncClient, small: Backlog) -> None:
    for unpayable in ({**ORDER, "items": [{"sku": "NONE", "quantity": 1}]}, {}):
        headers = {**bearer(uuid4()), "Idempotency-Key": str(uuid4())}
        assert (await client.post("/orders", json=unpayable, headers=headers)).status_code == 422
    assert (await client.post("/orders", json=ORDER)).status_code == 401
    assert [(await place(client)).status_code for _ in range(3)] == [201, 201, 503]


async def test_orders_in_hand_count_while_those_placed_are_counted(db: object) -> None:
    backlog = Backlog(most=2)
    with backlog.place():
        await backlog.count()
        with backlog.place(), pytest.raises(TooManyOrders):
            _enter(backlog.place)
    with pytest.raises(TooManyOrders):
        _enter(backlog.place)
    await backlog.count()
    with backlog.place():
        pass


def _enter(place: Callable[[], Any]) -> None:
    with place():
        pass
