"""The HTTP contract of `inventory`."""

from typing import Any
from uuid import uuid4

import httpx
import pytest
from chassis.identity import Role
from chassis.testing import Delivered, bearer

STAFF = bearer(uuid4(), Role.STAFF)


def key(value: str | None = None) -> dict[str, str]:
    return {"Idempotency-Key": value or str(uuid4())}


async def test_anyone_sees_how_much_there_is(client: httpx.AsyncClient, stocked: Any) -> None:
    await stocked("main", threshold=3, LAMP=5)
    await stocked("north", threshold=3, LAMP=2)

    reply = await client.get("/inventory/LAMP")

    assert reply.status_code == 200
    assert reply.json() == {
        "sku": "LAMP",
        "available": 7,
        "reserved": 0,
        "low_stock_threshold": 3,
    }


async def test_an_unknown_sku_is_not_found(client: httpx.AsyncClient) -> None:
    replies = [
        await client.get("/inventory/GHOST"),
        await client.get("/inventory/GHOST/warehouses", headers=STAFF),
        await client.put("/inventory/GHOST", json={"low_stock_threshold": 1}, headers=STAFF),
        await client.post("/inventory/GHOST/restock", json={"quantity": 1}, headers=STAFF | key()),
    ]

    for reply in replies:
        assert reply.status_code == 404
        assert reply.json()["type"] == "urn:waybill:problem:unknown-sku"


@pytest.mark.parametrize("sku", ["%00", "-", "a b", "x" * 65, "LAMP%0A"])
async def test_a_sku_that_cannot_be_one_is_refused(client: httpx.AsyncClient, sku: str) -> None:
    reply = await client.get(f"/inventory/{sku}")

    assert reply.status_code == 422
    assert reply.json()["errors"][0]["field"] == "sku"


async def test_stock_is_listed_by_sku_in_pages(client: httpx.AsyncClient, stocked: Any) -> None:
    await stocked("main", SOFA=1, LAMP=2, MUG=3)

    reply = await client.get("/inventory", params={"page": 2, "page_size": 2})

    assert reply.json()["items"] == [
        {"sku": "SOFA", "available": 1, "reserved": 0, "low_stock_threshold": 0}
    ]
    assert (reply.json()["page"], reply.json()["page_size"], reply.json()["total"]) == (2, 2, 3)


async def test_low_stock_can_be_listed_alone(client: httpx.AsyncClient, stocked: Any) -> None:
    await stocked("main", threshold=3, SOFA=1, LAMP=4, MUG=3)

    reply = await client.get("/inventory", params={"low": True})

    assert [item["sku"] for item in reply.json()["items"]] == ["MUG", "SOFA"]
    assert reply.json()["total"] == 2


@pytest.mark.parametrize("query", [{"page": 0}, {"page_size": 101}, {"page": "x"}, {"low": 7}])
async def test_a_page_that_cannot_be_is_refused(
    client: httpx.AsyncClient, query: dict[str, Any]
) -> None:
    reply = await client.get("/inventory", params=query)

    assert reply.status_code == 422
    assert reply.json()["errors"][0]["field"] == next(iter(query))


async def test_staff_see_where_the_units_are(
    client: httpx.AsyncClient, deliver: Delivered, orders: Any, stocked: Any
) -> None:
    await stocked("main", LAMP=5)
    await stocked("north", LAMP=2)
    await deliver(orders.created(LAMP=4))

    reply = await client.get("/inventory/LAMP/warehouses", headers=STAFF)

    assert reply.json() == [
        {"warehouse": "main", "received": 5, "available": 1, "reserved": 4, "dispatched": 0},
        {"warehouse": "north", "received": 2, "available": 2, "reserved": 0, "dispatched": 0},
    ]


async def test_restocked_units_are_available(
    client: httpx.AsyncClient, stocked: Any, shelf_of: Any
) -> None:
    await stocked("north", LAMP=5)

    to_main = await client.post(
        "/inventory/LAMP/restock", json={"quantity": 3}, headers=STAFF | key()
    )
    to_north = await client.post(
        "/inventory/LAMP/restock",
        json={"quantity": 4, "warehouse": "north"},
        headers=STAFF | key(),
    )

    assert (to_main.status_code, to_main.json()["available"]) == (200, 8)
    assert (to_north.status_code, to_north.json()["available"]) == (200, 12)
    assert await shelf_of("LAMP", "main") == (3, 3, 0, 0)
    assert await shelf_of("LAMP", "north") == (9, 9, 0, 0)


async def test_a_repeated_restock_counts_once(
    client: httpx.AsyncClient, stocked: Any, shelf_of: Any
) -> None:
    await stocked("main", LAMP=5, MUG=5)
    request: dict[str, Any] = {"json": {"quantity": 3}, "headers": STAFF | key("delivery-1")}

    first = await client.post("/inventory/LAMP/restock", **request)
    again = await client.post("/inventory/LAMP/restock", **request)
    other_sku = await client.post("/inventory/MUG/restock", **request)

    assert first.json() == again.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    assert other_sku.status_code == 422
    assert await shelf_of("LAMP") == (8, 8, 0, 0)
    assert await shelf_of("MUG") == (5, 5, 0, 0)


async def test_a_restock_needs_an_idempotency_key(client: httpx.AsyncClient, stocked: Any) -> None:
    await stocked("main", LAMP=5)

    reply = await client.post("/inventory/LAMP/restock", json={"quantity": 3}, headers=STAFF)

    assert reply.status_code == 400


async def test_an_unknown_warehouse_is_named(client: httpx.AsyncClient, stocked: Any) -> None:
    await stocked("main", LAMP=5)
    body = {"quantity": 3, "warehouse": "atlantis"}

    reply = await client.post("/inventory/LAMP/restock", json=body, headers=STAFF | key())

    assert reply.status_code == 422
    assert reply.json()["errors"][0]["field"] == "warehouse"


@pytest.mark.parametrize("quantity", [0, -1, 1_000_001, 10**30, 1.5, "3", True, None])
async def test_a_restock_of_no_sensible_quantity_is_refused(
    client: httpx.AsyncClient, stocked: Any, shelf_of: Any, quantity: Any
) -> None:
    await stocked("main", LAMP=5)
    body = {"quantity": quantity}

    reply = await client.post("/inventory/LAMP/restock", json=body, headers=STAFF | key())

    assert reply.status_code == 422
    assert reply.json()["errors"][0]["field"] == "quantity"
    assert await shelf_of("LAMP") == (5, 5, 0, 0)


async def test_staff_set_the_threshold(client: httpx.AsyncClient, stocked: Any) -> None:
    await stocked("main", LAMP=5)

    reply = await client.put("/inventory/LAMP", json={"low_stock_threshold": 9}, headers=STAFF)

    assert reply.json()["low_stock_threshold"] == 9
    assert (await client.get("/inventory/LAMP")).json() == reply.json()


async def test_an_import_books_in_many_skus_and_makes_unknown_ones_known(
    client: httpx.AsyncClient, stocked: Any, shelf_of: Any
) -> None:
    await stocked("main", LAMP=5)
    lines = [
        {"sku": "LAMP", "quantity": 2, "low_stock_threshold": 4},
        {"sku": "MUG", "quantity": 7, "low_stock_threshold": 1},
    ]
    headers = STAFF | key()

    first = await client.post("/inventory/import", json=lines, headers=headers)
    again = await client.post("/inventory/import", json=lines, headers=headers)

    assert first.json() == again.json() == {"imported": 2}
    assert await shelf_of("LAMP") == (7, 7, 0, 0)
    assert await shelf_of("MUG") == (7, 7, 0, 0)
    assert (await client.get("/inventory/LAMP")).json()["low_stock_threshold"] == 4


async def test_an_import_of_the_largest_size_is_taken(client: httpx.AsyncClient) -> None:
    lines = [
        {"sku": f"SKU-{number:04}", "quantity": 1_000_000, "low_stock_threshold": 10}
        for number in range(500)
    ]

    reply = await client.post("/inventory/import", json=lines, headers=STAFF | key())

    assert reply.json() == {"imported": 500}
    assert (await client.get("/inventory")).json()["total"] == 500


LINE = {"sku": "LAMP", "quantity": 1, "low_stock_threshold": 0}


@pytest.mark.parametrize(
    ("lines", "field"),
    [
        ([], "body"),
        ([LINE, LINE], "body"),
        ([LINE | {"sku": f"SKU-{number}"} for number in range(501)], "body"),
        ([LINE, LINE | {"sku": "no good"}], "1.sku"),
        ([LINE | {"quantity": -1}], "0.quantity"),
        ([LINE | {"low_stock_threshold": None}], "0.low_stock_threshold"),
    ],
)
async def test_an_import_with_a_bad_line_is_refused_whole(
    client: httpx.AsyncClient, lines: list[dict[str, Any]], field: str
) -> None:
    reply = await client.post("/inventory/import", json=lines, headers=STAFF | key())

    assert reply.status_code == 422
    assert reply.json()["errors"][0]["field"] == field
    assert (await client.get("/inventory")).json()["total"] == 0


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/inventory/LAMP/warehouses", None),
        ("POST", "/inventory/LAMP/restock", {"quantity": 1}),
        ("POST", "/inventory/import", [LINE]),
        ("PUT", "/inventory/LAMP", {"low_stock_threshold": 1}),
    ],
)
async def test_only_staff_may_touch_the_shelves(
    client: httpx.AsyncClient, stocked: Any, method: str, path: str, body: Any
) -> None:
    await stocked("main", LAMP=5)
    customer, carrier = bearer(uuid4()), bearer(uuid4(), Role.CARRIER)
    statuses = [
        (await client.request(method, path, json=body, headers=who | key())).status_code
        for who in ({}, customer, carrier, bearer(uuid4(), Role.ADMIN))
    ]

    assert statuses == [401, 403, 403, 200]
