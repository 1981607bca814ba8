"""What can be reached from outside."""

import re

import pytest
from gateway.routing import AREAS, Access, NoSuchRoute, resolve
from hypothesis import given
from hypothesis import strategies as st

REACHABLE = re.compile(r"[a-z]+(-[a-z]+)*(/[A-Za-z0-9_][A-Za-z0-9._:-]*)*")
hostile = st.text(st.sampled_from("/.%2feE5cusersapiv1internalvts\\?#;:@\n\x00 é"), max_size=30)


@pytest.mark.parametrize(
    ("path", "app_id", "forwarded"),
    [
        ("/api/v1/users/me", "users", "users/me"),
        ("/api/v1/products", "catalog", "products"),
        ("/api/v1/products/SKU-0001.b_2", "catalog", "products/SKU-0001.b_2"),
        ("/api/v1/inventory/LAMP/restock", "inventory", "inventory/LAMP/restock"),
        ("/api/v1/orders", "orders", "orders"),
        ("/api/v1/payments", "payments", "payments"),
        ("/api/v1/shipments", "tracking", "shipments"),
        ("/api/v1/tracking/WB123", "tracking", "tracking/WB123"),
        ("/api/v1/notifications", "notifications", "notifications"),
        ("/api/v1/dead-letters", "dashboard", "dead-letters"),
        ("/api/v1/dead-letters/orders:1f/replay", "dashboard", "dead-letters/orders:1f/replay"),
    ],
)
def test_a_path_leads_to_its_service(path: str, app_id: str, forwarded: str) -> None:
    target = resolve("GET", path)

    assert (target.app_id, target.path) == (app_id, forwarded)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1",
        "/api/v1/",
        "/api/v1/users/",
        "/api/v1//users",
        "/api/v1/users//me",
        "/api/v1/internal/prices",
        "/api/v1/events/order.created",
        "/api/v1/health",
        "/api/v1/metrics",
        "/api/v1/.well-known/jwks.json",
        "/api/v1/dashboard",
        "/api/v1/job/sweep",
        "/api/v2/users",
        "/internal/prices",
        "/api/v1/products/../internal/prices",
        "/api/v1/products/./x",
        "/api/v1/products/..",
        "/api/v1/products/%2e%2e/internal/prices",
        "/api/v1/products/%2E%2E%2Finternal%2Fprices",
        "/api/v1/products%2f..%2finternal",
        "/api/v1/products/..%5cinternal",
        "/api/v1/products/..\\internal",
        "/api/v1/products/%252e%252e/internal",
        "/api/v1/products/a%00",
        "/api/v1/products/a;b=c",
        "/api/v1/products/.hidden",
        "/api/v1/products/a\n",
        "/api/v1/products/:a",
        "/api/v1/-letters",
        "/api/v1/dead--letters",
        "/api/v1/http://users",
        "/api/v1/products/é",
        "/api%2Fv1/products",
        "/API/v1/products",
        "/api/v1/Users",
        "/api/v1/products/" + "a" * 129,
        "/api/v1/products" + "/a" * 7,
        "/api/v1/../v1/users",
        "http://users/api/v1/users",
        "",
    ],
)
def test_nothing_else_is_there(path: str) -> None:
    with pytest.raises(NoSuchRoute):
        resolve("GET", path)


@given(st.sampled_from(["", "/api/v1/", "/api/v1/users/", "/api/v1/products/"]), hostile)
def test_what_is_forwarded_cannot_be_read_in_two_ways(prefix: str, text: str) -> None:
    try:
        target = resolve("GET", prefix + text)
    except NoSuchRoute:
        return
    assert REACHABLE.fullmatch(target.path)
    assert ".." not in target.path.split("/")
    assert AREAS[target.path.partition("/")[0]].app_id == target.app_id


@pytest.mark.parametrize(
    ("method", "path", "access"),
    [
        ("POST", "users/register", Access.TOKENLESS),
        ("POST", "users/login", Access.TOKENLESS),
        ("POST", "users/refresh", Access.TOKENLESS),
        ("POST", "payments/webhooks/provider", Access.TOKENLESS),
        ("GET", "products", Access.OPEN),
        ("HEAD", "products/LAMP", Access.OPEN),
        ("GET", "inventory/LAMP", Access.OPEN),
        ("GET", "tracking/WB1", Access.OPEN),
        ("GET", "users/register", Access.PROTECTED),
        ("PUT", "users/login", Access.PROTECTED),
        ("POST", "users/login/x", Access.PROTECTED),
        ("POST", "users/logout", Access.PROTECTED),
        ("GET", "users", Access.PROTECTED),
        ("POST", "products", Access.PROTECTED),
        ("DELETE", "products/LAMP", Access.PROTECTED),
        ("POST", "inventory/LAMP/restock", Access.PROTECTED),
        ("POST", "tracking/WB1", Access.PROTECTED),
        ("GET", "payments/webhooks/provider", Access.PROTECTED),
        ("POST", "payments/webhooks", Access.PROTECTED),
        ("GET", "orders", Access.PROTECTED),
        ("GET", "shipments", Access.PROTECTED),
        ("GET", "notifications", Access.PROTECTED),
        ("GET", "dead-letters", Access.PROTECTED),
        ("POST", "dead-letters/orders:1f/replay", Access.PROTECTED),
    ],
)
def test_only_what_is_declared_needs_no_token(method: str, path: str, access: Access) -> None:
    assert resolve(method, f"/api/v1/{path}").access is access


@pytest.mark.parametrize(
    ("method", "path", "limit"),
    [
        ("POST", "users/register", "register"),
        ("POST", "users/login", "login"),
        ("POST", "users/refresh", "users"),
        ("GET", "users/me", "users"),
        ("POST", "payments/webhooks/provider", "webhooks"),
        ("POST", "payments/x/confirm", "payments"),
        ("GET", "products", "products"),
    ],
)
def test_a_route_has_the_limit_of_its_area_unless_it_has_its_own(
    method: str, path: str, limit: str
) -> None:
    assert resolve(method, f"/api/v1/{path}").limit == limit
