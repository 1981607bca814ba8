"""Bad input through the edge: a Problem Details answer, never a 500, and nothing left behind."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from chassis.testing import bearer
from waybill.project import Project
from waybill.shop import ADDRESS, Person, Shop

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

GOOD: dict[str, Any] = {
    "items": [{"sku": "MUG-ENAMEL", "quantity": 1}],
    "shipping_address": ADDRESS,
    "payment_method": "pm_card_ok",
}


@pytest.fixture(scope="module")
async def customer(shop: Shop) -> Person:
    return await shop.register("Bad Input")


@pytest.fixture(scope="module")
async def edge(platform: Project) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url="http://127.0.0.1:8000/api/v1", timeout=30) as client:
        yield client


async def orders_of(edge: httpx.AsyncClient, customer: Person) -> int:
    return (await edge.get("/orders", headers=dict(customer.headers))).json()["total"]


def with_item(**item: Any) -> dict[str, Any]:
    return {**GOOD, "items": [{**GOOD["items"][0], **item}]}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (with_item(sku="GHOST"), "items.0.sku"),
        (with_item(quantity=0), "items.0.quantity"),
        (with_item(quantity=10**12), "items.0.quantity"),
        (
            {**GOOD, "shipping_address": {**ADDRESS, "country": "Norway"}},
            "shipping_address.country",
        ),
        ({**GOOD, "payment_method": "4242 4242 4242 4242"}, "payment_method"),
    ],
)
async def test_a_bad_field_is_named_with_its_rule(
    edge: httpx.AsyncClient, customer: Person, body: dict[str, Any], field: str
) -> None:
    before = await orders_of(edge, customer)
    reply = await edge.post("/orders", json=body, headers=dict(customer.headers))
    assert reply.status_code == 422
    assert reply.headers["content-type"] == "application/problem+json"
    [violation] = reply.json()["errors"]
    assert violation["field"] == field
    assert violation["rule"]
    assert await orders_of(edge, customer) == before


@pytest.mark.parametrize(
    ("content", "status"), [(b"{broken", 400), (b" " * 10_000_000, 413)], ids=["broken", "huge"]
)
async def test_a_bad_body_is_refused(
    edge: httpx.AsyncClient, customer: Person, content: bytes, status: int
) -> None:
    headers = {**customer.headers, "Content-Type": "application/json"}
    reply = await edge.post("/orders", content=content, headers=headers)
    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer nonsense"}, bearer(uuid4())],
    ids=["missing", "nonsense", "foreign"],
)
async def test_a_missing_or_foreign_token_is_refused(
    edge: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    reply = await edge.post("/orders", json=GOOD, headers=headers)
    assert reply.status_code == 401
    assert reply.headers["content-type"] == "application/problem+json"


async def test_someone_elses_order_does_not_exist(
    edge: httpx.AsyncClient, shop: Shop, customer: Person
) -> None:
    order = await shop.order(await shop.register("Some One"), GOOD["items"])
    reply = await edge.get(f"/orders/{order['id']}", headers=dict(customer.headers))
    assert reply.status_code == 404


async def test_a_key_reused_with_another_body_is_refused(
    edge: httpx.AsyncClient, customer: Person
) -> None:
    before = await orders_of(edge, customer)
    headers = {**customer.headers, "Idempotency-Key": str(uuid4())}
    first = await edge.post("/orders", json=GOOD, headers=headers)
    again = await edge.post("/orders", json=GOOD, headers=headers)
    other = await edge.post("/orders", json=with_item(quantity=2), headers=headers)
    assert (first.status_code, again.status_code, other.status_code) == (201, 201, 422)
    assert first.json()["id"] == again.json()["id"]
    assert await orders_of(edge, customer) == before + 1


@pytest.mark.parametrize(
    "path", ["/internal/prices", "/events", "/orders/../events", "/orders/%2e%2e/events"]
)
async def test_the_sidecars_routes_cannot_be_reached_from_outside(
    edge: httpx.AsyncClient, customer: Person, path: str
) -> None:
    reply = await edge.post(path, json={}, headers=dict(customer.headers))
    assert reply.status_code in {404, 405}


async def test_a_service_refuses_events_that_its_sidecar_did_not_send(platform: Project) -> None:
    async with httpx.AsyncClient() as direct:
        for app in platform.apps:
            url = f"http://127.0.0.1:{app.port}/events"
            reply = await direct.post(url, json={"entries": []})
            assert reply.status_code in {403, 404, 405}, app.name
