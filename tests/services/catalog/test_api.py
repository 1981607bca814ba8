"""The HTTP contract of `catalog`."""

import json
from typing import Any
from uuid import uuid4

import httpx
import pytest
from chassis.identity import Role
from chassis.settings import settings
from chassis.testing import bearer, logged
from contracts.catalog import ProductUpdated
from hypothesis import HealthCheck, given, strategies
from hypothesis import settings as effort

pytestmark = pytest.mark.usefixtures("db")

LAMP: dict[str, Any] = {
    "sku": "LAMP-01",
    "name": "Desk lamp",
    "description": "Warm light for long evenings.",
    "category": "Lighting",
    "price": 4_900,
    "currency": "EUR",
}
STAFF = bearer(uuid4(), Role.STAFF)
PRINTABLE = strategies.characters(exclude_categories=["Cs", "Cc"])


def product(sku: str, **other: Any) -> dict[str, Any]:
    return {**LAMP, "sku": sku, **other}


async def add(client: httpx.AsyncClient, *products: dict[str, Any]) -> None:
    reply = await client.post("/products/import", json={"products": products}, headers=STAFF)
    assert reply.status_code == 200, reply.text


async def found(client: httpx.AsyncClient, **query: Any) -> list[str]:
    reply = await client.get("/products", params=query)
    assert reply.status_code == 200, reply.text
    return [item["sku"] for item in reply.json()["items"]]


async def ask_prices(client: httpx.AsyncClient, *skus: str) -> httpx.Response:
    token = {"dapr-api-token": settings().app_api_token}
    return await client.post("/internal/prices", json={"skus": skus}, headers=token)


async def test_a_new_product_can_be_read_and_is_announced(client: httpx.AsyncClient) -> None:
    package = {"weight_kg": 1.2, "length_cm": 40, "width_cm": 20, "height_cm": 20}
    reply = await client.post("/products", json={**LAMP, "package": package}, headers=STAFF)

    assert reply.status_code == 201, reply.text
    read = (await client.get("/products/LAMP-01")).json()
    assert read == reply.json()
    assert {**read, **LAMP, "package": package, "version": 1} == read
    [event] = await logged(ProductUpdated)
    assert (event.sku, event.price, event.currency, event.active) == ("LAMP-01", 4_900, "EUR", True)


async def test_a_sku_can_be_taken_once(client: httpx.AsyncClient) -> None:
    await client.post("/products", json=LAMP, headers=STAFF)

    again = await client.post("/products", json=product("LAMP-01", name="Other"), headers=STAFF)

    assert again.status_code == 409
    assert again.json()["type"] == "urn:waybill:problem:sku-taken"
    assert (await client.get("/products/LAMP-01")).json()["name"] == "Desk lamp"
    assert len(await logged(ProductUpdated)) == 1


async def test_a_changed_product_is_announced_once(client: httpx.AsyncClient) -> None:
    await add(client, LAMP)

    for _ in range(2):
        reply = await client.put("/products/LAMP-01", json={**LAMP, "price": 5_900}, headers=STAFF)
        assert (reply.status_code, reply.json()["price"], reply.json()["version"]) == (
            200,
            5_900,
            2,
        )

    assert [e.product_version for e in await logged(ProductUpdated)] == [1, 2]


async def test_a_withdrawn_product_is_nowhere_and_its_sku_stays_taken(
    client: httpx.AsyncClient,
) -> None:
    await add(client, LAMP)

    for _ in range(2):
        reply = await client.delete("/products/LAMP-01", headers=STAFF)
        assert (reply.status_code, reply.content) == (204, b"")

    assert (await client.get("/products/LAMP-01")).status_code == 404
    assert await found(client) == await found(client, q="lamp") == []
    assert (await ask_prices(client, "LAMP-01")).json() == {"products": []}
    assert (await client.post("/products", json=LAMP, headers=STAFF)).status_code == 409
    assert [e.active for e in await logged(ProductUpdated)] == [True, False]


async def test_replacing_a_withdrawn_product_puts_it_back_on_sale(
    client: httpx.AsyncClient,
) -> None:
    await add(client, LAMP)
    await client.delete("/products/LAMP-01", headers=STAFF)

    reply = await client.put("/products/LAMP-01", json=LAMP, headers=STAFF)

    assert (reply.status_code, reply.json()["version"]) == (200, 3)
    assert await found(client) == ["LAMP-01"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_a_product_that_never_was_is_not_found(
    client: httpx.AsyncClient, method: str
) -> None:
    body = None if method == "GET" else LAMP
    reply = await client.request(method, "/products/NOTHING", json=body, headers=STAFF)

    assert reply.status_code == 404
    assert reply.json()["type"] == "urn:waybill:problem:product-not-found"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/products"),
        ("POST", "/products/import"),
        ("PUT", "/products/LAMP-01"),
        ("DELETE", "/products/LAMP-01"),
    ],
)
async def test_only_staff_keep_the_catalogue(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    customer = bearer(uuid4(), Role.CUSTOMER)
    body = {"products": [LAMP]} if path.endswith("import") else LAMP

    assert (await client.request(method, path, json=body)).status_code == 401
    assert (await client.request(method, path, json=body, headers=customer)).status_code == 403
    assert await logged(ProductUpdated) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sku", "lamp"),
        ("sku", "-LAMP"),
        ("sku", "L" * 65),
        ("sku", "LAMP\n"),
        ("name", " "),
        ("name", "Desk\nlamp"),
        ("name", "n" * 201),
        ("name", "\ud800"),
        ("description", "NUL \0"),
        ("description", "d" * 5_001),
        ("category", ""),
        ("price", -1),
        ("price", 100_000_001),
        ("price", 49.5),
        ("price", "4900"),
        ("currency", "eur"),
        ("currency", "ZZZ"),
        ("currency", "XAU"),
        ("currency", "XXX"),
        ("package", {"weight_kg": 0, "length_cm": 1, "width_cm": 1, "height_cm": 1}),
    ],
)
async def test_bad_input_is_refused_by_the_name_of_the_field(
    client: httpx.AsyncClient, field: str, value: object
) -> None:
    body = json.dumps({**LAMP, field: value})
    headers = {**STAFF, "Content-Type": "application/json"}
    reply = await client.post("/products", content=body, headers=headers)

    assert reply.status_code == 422, reply.text
    assert reply.json()["errors"][0]["field"].split(".")[0] == field
    assert await logged(ProductUpdated) == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("lamp", ["LAMP-01", "SHADE-7"]),  # a name counts more than a description
        ("LAM", ["LAMP-01", "SHADE-7"]),
        ("lamps", ["LAMP-01", "SHADE-7"]),
        ("a lamp", ["LAMP-01", "SHADE-7"]),
        ("lamp desk", ["LAMP-01"]),
        ("organi", ["TEA-3"]),
        ("TEA-3", ["TEA-3"]),
        ("tea-", ["TEA-3"]),
        ("lighting", ["LAMP-01", "SHADE-7"]),
        ("amp", []),
        ("lamp tea", []),
        ("& | ! <-> :* ' \\ ( %", []),
    ],
)
async def test_search_finds_words_by_their_beginnings_and_their_forms(
    client: httpx.AsyncClient, query: str, expected: list[str]
) -> None:
    await add(
        client,
        LAMP,
        product("SHADE-7", name="Paper shade", description="Fits every lamp."),
        product("TEA-3", name="Green tea", description="Organic leaves.", category="Kitchen"),
    )

    assert await found(client, q=query) == expected


@given(
    strategies.text(
        strategies.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=100
    )
)
@effort(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_search_text_breaks_the_query(client: httpx.AsyncClient, query: str) -> None:
    reply = await client.get("/products", params={"q": query})

    assert reply.status_code == (200 if query.strip() else 422)


async def test_a_category_narrows_the_list_and_the_search(client: httpx.AsyncClient) -> None:
    await add(client, LAMP, product("TEA", name="Lamp-lit tea", category="Kitchen"))

    assert await found(client, category="Kitchen") == ["TEA"]
    assert await found(client, category="Kitchen", q="lamp") == ["TEA"]
    assert await found(client, category="Garden") == []


@pytest.mark.parametrize("query", [{}, {"q": "lamp"}])
async def test_pages_neither_overlap_nor_leave_a_gap(
    client: httpx.AsyncClient, query: dict[str, str]
) -> None:
    skus = [f"LAMP-{n:02}" for n in range(7)]
    await add(client, *(product(sku) for sku in reversed(skus)))

    pages = [await found(client, **query, page=n, page_size=3) for n in (1, 2, 3, 4)]

    assert pages == [skus[:3], skus[3:6], skus[6:], []]
    reply = await client.get("/products", params={**query, "page": 2, "page_size": 3})
    assert {k: reply.json()[k] for k in ("page", "page_size", "total")} == {
        "page": 2,
        "page_size": 3,
        "total": 7,
    }


@pytest.mark.parametrize(
    "query",
    [{"page": 0}, {"page_size": 0}, {"page_size": 101}, {"q": "\0"}, {"q": "q" * 101}],
)
async def test_a_list_is_bounded(client: httpx.AsyncClient, query: dict[str, Any]) -> None:
    reply = await client.get("/products", params=query)

    assert reply.status_code == 422
    assert reply.json()["errors"][0]["field"] == next(iter(query))


async def test_an_import_adds_changes_and_leaves_alone(client: httpx.AsyncClient) -> None:
    await add(client, product("A"), product("B"), product("GONE"))
    await client.delete("/products/GONE", headers=STAFF)
    before = len(await logged(ProductUpdated))
    batch = {"products": [product("GONE"), product("NEW"), product("B", price=1), product("A")]}

    first = await client.post("/products/import", json=batch, headers=STAFF)
    again = await client.post("/products/import", json=batch, headers=STAFF)

    assert first.json() == {"created": 1, "updated": 2, "unchanged": 1}
    assert again.json() == {"created": 0, "updated": 0, "unchanged": 4}
    events = {e.sku: e for e in (await logged(ProductUpdated))[before:]}
    assert {sku: e.product_version for sku, e in events.items()} == {"GONE": 3, "NEW": 1, "B": 2}
    assert all(e.active for e in events.values())
    assert (await client.get("/products/B")).json()["price"] == 1


async def test_an_import_is_bounded_and_names_a_sku_once(client: httpx.AsyncClient) -> None:
    for products in ([], [LAMP, LAMP], [product(f"P-{n}") for n in range(501)]):
        body = {"products": products}
        reply = await client.post("/products/import", json=body, headers=STAFF)
        assert reply.status_code == 422
    assert await logged(ProductUpdated) == []


async def test_prices_are_told_of_what_is_for_sale(client: httpx.AsyncClient) -> None:
    await add(client, LAMP, product("TEA", name="Tea", price=350))

    reply = await ask_prices(client, "LAMP-01", "TEA", "UNKNOWN", "no sku\0", "x" * 10_000)

    assert reply.status_code == 200
    assert sorted(reply.json()["products"], key=lambda p: p["sku"]) == [
        {"sku": "LAMP-01", "name": "Desk lamp", "price": 4_900, "currency": "EUR"},
        {"sku": "TEA", "name": "Tea", "price": 350, "currency": "EUR"},
    ]


async def test_prices_are_for_the_sidecar_and_bounded(client: httpx.AsyncClient) -> None:
    assert (await client.post("/internal/prices", json={"skus": []})).status_code == 403
    assert (
        await client.post("/internal/prices", json={"skus": []}, headers=STAFF)
    ).status_code == 403
    assert (await ask_prices(client)).json() == {"products": []}
    assert (await ask_prices(client, *["SKU"] * 101)).status_code == 422
