"""One description of the whole API."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from chassis.problems import Unavailable
from chassis.sidecar import Reply
from chassis.testing import StandInSidecar
from fastapi import FastAPI
from gateway.app import app as gateway_app
from gateway.openapi import Description, merge
from pydantic import BaseModel, Field

SERVICES = [
    "catalog",
    "dashboard",
    "inventory",
    "notifications",
    "orders",
    "payments",
    "tracking",
    "users",
]


def a_service(path: str) -> dict[str, Any]:
    """The description of a service with a few routes, some of them not for outside."""

    class Item(BaseModel):
        name: str

    class Page(BaseModel):
        items: list[Item] = Field(max_length=3)

    app = FastAPI()

    async def read() -> Page: ...

    async def write(item: Item) -> Item: ...

    for route in (path, path + "/{item_id}", "/internal/things"):
        app.add_api_route(route, read, methods=["GET"])
        app.add_api_route(route, write, methods=["POST"])
    return app.openapi()


def references(node: Any) -> Iterator[str]:
    yield from re.findall(r'"\$ref": "([^"]+)"', json.dumps(node))


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for item in document["paths"].values() for operation in item.values()]


@pytest.fixture
def document() -> dict[str, Any]:
    return merge({"orders": a_service("/orders"), "catalog": a_service("/products")})


def test_paths_are_those_of_the_edge(document: dict[str, Any]) -> None:
    assert set(document["paths"]) == {
        "/api/v1/orders",
        "/api/v1/orders/{item_id}",
        "/api/v1/products",
        "/api/v1/products/{item_id}",
    }


def test_a_service_describes_its_own_paths_only() -> None:
    assert merge({"catalog": a_service("/orders")})["paths"] == {}


def test_schemas_of_the_same_name_do_not_clash(document: dict[str, Any]) -> None:
    assert set(document["components"]["schemas"]) == {
        "Problem",
        "catalog.Item",
        "catalog.Page",
        "orders.Item",
        "orders.Page",
    }


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    found = set(references(document))

    assert "#/components/schemas/orders.Item" in found
    for reference in found:
        node = document
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]


def test_operation_ids_are_unique(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for operation in operations(document)]

    assert len(ids) == len(set(ids)) == 8


def test_each_operation_says_whether_it_needs_a_token(document: dict[str, Any]) -> None:
    paths = document["paths"]

    assert paths["/api/v1/orders"]["get"]["security"] == [{"bearer": []}]
    assert paths["/api/v1/products"]["get"]["security"] == [{}, {"bearer": []}]
    assert paths["/api/v1/products"]["post"]["security"] == [{"bearer": []}]
    login = merge({"users": a_service("/users/login")})["paths"]["/api/v1/users/login"]
    assert login["post"]["security"] == []
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


def test_errors_are_problem_details(document: dict[str, Any]) -> None:
    for operation in operations(document):
        assert operation["responses"]["default"] == {"$ref": "#/components/responses/Problem"}
        assert "422" not in operation["responses"]


def test_a_service_that_is_away_is_named() -> None:
    document = merge({"orders": a_service("/orders"), "catalog": None, "users": None})

    assert "Not available at the moment: catalog, users." in document["info"]["description"]
    assert "/api/v1/orders" in document["paths"]


async def test_all_services_are_asked(stand_in: StandInSidecar) -> None:
    for service in SERVICES:
        stand_in.answer(service, "openapi.json", {"paths": {}})

    document = json.loads(await Description().text())

    assert sorted(stand_in.calls) == [(service, "openapi.json") for service in SERVICES]
    assert "Not available" not in document["info"]["description"]


def gone() -> Reply:
    raise Unavailable("away")


async def test_the_description_is_kept(
    stand_in: StandInSidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("gateway.openapi.time.monotonic", lambda: now)
    for service in SERVICES:
        stand_in.answer(service, "openapi.json", {"paths": {}})
    description = Description()

    first = await description.text()
    now = 59.0
    assert await description.text() is first
    assert len(stand_in.calls) == len(SERVICES)
    now = 60.0
    await description.text()
    assert len(stand_in.calls) == 2 * len(SERVICES)


@pytest.mark.parametrize("trouble", ["away", "error", "nonsense"])
async def test_a_service_without_a_description_is_soon_asked_again(
    stand_in: StandInSidecar, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    now = 0.0
    monkeypatch.setattr("gateway.openapi.time.monotonic", lambda: now)
    for service in SERVICES:
        stand_in.answer(service, "openapi.json", {"paths": {}})
    stand_in.answers["orders", "openapi.json"] = {
        "away": gone,
        "error": lambda: Reply(500, {}, b"{}"),
        "nonsense": lambda: Reply(200, {}, b"<html>"),
    }[trouble]
    description = Description()

    text = await description.text()
    assert b"Not available at the moment: orders." in text
    now = 5.0
    await description.text()
    assert len(stand_in.calls) == 2 * len(SERVICES)


@pytest.fixture
def app(stand_in: StandInSidecar, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    for service in SERVICES:
        stand_in.answers[service, "openapi.json"] = gone
    monkeypatch.setattr("gateway.openapi.description", Description())
    return gateway_app


async def test_the_document_is_public(client: httpx.AsyncClient) -> None:
    reply = await client.get("/api/v1/openapi.json")

    assert reply.status_code == 200
    assert reply.json()["openapi"] == "3.1.0"


async def test_the_page_works_without_the_internet(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs", follow_redirects=True)

    assert page.status_code == 200
    assert "http" not in re.sub(r"http-equiv", "", page.text)
    for name in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert (await client.get(f"/docs/{name}")).status_code == 200, name
    script = await client.get("/docs/docs.js")
    assert "/api/v1/openapi.json" in script.text
    assert "script-src" not in page.headers["content-security-policy"]
    assert "default-src 'self'" in page.headers["content-security-policy"]
