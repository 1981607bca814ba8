"""Writers of `catalog` that meet."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest
from chassis.identity import Role
from chassis.testing import bearer, logged
from contracts.catalog import ProductUpdated

pytestmark = pytest.mark.usefixtures("concurrent_db")

STAFF = bearer(uuid4(), Role.STAFF)


def product(sku: str, price: int) -> dict[str, Any]:
    return {"sku": sku, "name": sku, "category": "Misc", "price": price, "currency": "EUR"}


async def test_imports_of_the_same_products_do_not_deadlock(client: httpx.AsyncClient) -> None:
    skus = [f"P-{n}" for n in range(200)]
    batches = [
        {"products": [product(sku, price) for sku in order]}
        for price, order in enumerate([skus, skus[::-1]] * 3)
    ]

    replies = await asyncio.gather(
        *(client.post("/products/import", json=batch, headers=STAFF) for batch in batches)
    )

    assert [reply.status_code for reply in replies] == [200] * 6
    assert sum(reply.json()["created"] for reply in replies) == 200


async def test_changes_of_one_product_each_get_a_version_of_their_own(
    client: httpx.AsyncClient,
) -> None:
    await client.post("/products", json=product("P", 0), headers=STAFF)

    replies = await asyncio.gather(
        *(client.put("/products/P", json=product("P", n), headers=STAFF) for n in range(1, 9))
    )

    assert {reply.status_code for reply in replies} == {200}
    assert [e.product_version for e in await logged(ProductUpdated)] == list(range(1, 10))
