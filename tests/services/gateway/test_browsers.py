"""What browsers are told."""

import httpx
import pytest
from fastapi import FastAPI
from gateway.browsers import SecurityHeaders, allow_origins

SHOP = "https://shop.example"


@pytest.mark.parametrize("path", ["/api/v1/products", "/api/v1/orders", "/api/v1/nothing", "/"])
async def test_no_answer_can_be_run_or_framed(client: httpx.AsyncClient, path: str) -> None:
    headers = (await client.get(path)).headers

    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"


async def test_no_origin_is_allowed_by_default(client: httpx.AsyncClient) -> None:
    reply = await client.get("/api/v1/products", headers={"Origin": SHOP})

    assert "access-control-allow-origin" not in reply.headers


@pytest.fixture
async def shop_client() -> httpx.AsyncClient:
    app = FastAPI()
    app.add_middleware(SecurityHeaders)
    allow_origins(app, (SHOP,))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")


async def test_an_allowed_origin_may_read(shop_client: httpx.AsyncClient) -> None:
    async with shop_client:
        reply = await shop_client.get("/", headers={"Origin": SHOP})

    assert reply.headers["access-control-allow-origin"] == SHOP
    assert "access-control-allow-credentials" not in reply.headers
    assert "Retry-After" in reply.headers["access-control-expose-headers"]


@pytest.mark.parametrize(("origin", "status"), [(SHOP, 200), ("https://evil.example", 400)])
async def test_only_allowed_origins_may_send_tokens(
    shop_client: httpx.AsyncClient, origin: str, status: int
) -> None:
    preflight = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, idempotency-key",
    }

    async with shop_client:
        reply = await shop_client.options("/", headers=preflight)

    assert reply.status_code == status
    assert ("access-control-allow-origin" in reply.headers) == (status == 200)
