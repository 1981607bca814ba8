"""How often a caller may call, and where that is said."""

from collections.abc import Callable
from uuid import uuid4

import httpx
import pytest
from chassis.testing import StandInSidecar, bearer
from gateway.app import warned
from gateway.rate_limits import DEFAULTS, Allowance, RateLimits, Windows, read_live_limits
from gateway.routing import LIMIT_NAMES
from gateway.settings import GatewaySettings
from structlog.testing import capture_logs

Limited = Callable[[str], RateLimits]


def limits(given: str = "", callers: int = 100) -> RateLimits:
    return RateLimits(GatewaySettings(waybill_rate_limits=given, rate_limited_callers=callers))


def granted(allowance: Allowance | None) -> bool:
    return allowance is None or allowance.granted


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Limited:
    """The gateway has these limits until the test ends."""

    def configure(given: str) -> RateLimits:
        fresh = limits(given)
        monkeypatch.setattr("gateway.api.rate_limits", fresh)
        monkeypatch.setattr("gateway.rate_limits.rate_limits", fresh)
        return fresh

    return configure


def test_a_caller_has_so_many_requests_a_window() -> None:
    table = limits("orders=2/minute")

    allowances = [table.take("orders", "ann") for _ in range(3)]

    assert [granted(allowance) for allowance in allowances] == [True, True, False]
    assert [a.remaining for a in allowances if a] == [1, 0, 0]
    assert all(0 < a.reset <= 60 for a in allowances if a)


def test_callers_and_names_are_counted_apart() -> None:
    table = limits("orders=1/minute, products=1/minute")

    assert granted(table.take("orders", "ann"))
    assert granted(table.take("orders", "bob"))
    assert granted(table.take("products", "ann"))
    assert not granted(table.take("orders", "ann"))


def test_a_window_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr("gateway.rate_limits.time.time", lambda: now)
    table = limits("orders=1/minute")
    table.take("orders", "ann")

    now = 1_059.9
    assert not granted(table.take("orders", "ann"))
    now = 1_060.0
    assert granted(table.take("orders", "ann"))


def test_memory_is_bounded() -> None:
    table = limits("orders=1/minute", callers=2)

    for caller in ("ann", "bob", "cy"):
        table.take("orders", caller)

    assert granted(table.take("orders", "ann")), "the oldest window has given way"
    assert not granted(table.take("orders", "cy"))


def test_windows_can_be_cleared() -> None:
    windows = Windows(10)
    windows.incr("a", 60)
    windows.incr("b", 60, amount=2)

    windows.clear("a")
    assert (windows.get("a"), windows.get("b")) == (0, 2)
    windows.reset()
    assert windows.get("b") == 0
    assert windows.check()


@pytest.mark.parametrize(
    ("name", "quota"),
    [("users", 100), ("orders", 200), ("payments", 50), ("products", 300), ("login", 60)],
)
def test_limits_have_defaults(name: str, quota: int) -> None:
    allowance = limits().take(name, "ann")

    assert allowance
    assert (allowance.limit.amount, allowance.limit.get_expiry()) == (quota, 60)


def test_the_live_limit_goes_before_the_setting_and_this_before_the_default() -> None:
    table = limits("orders=2/minute")

    table.configure({"orders": "3/minute"})
    live = table.take("orders", "ann")
    table.configure({})
    setting = table.take("orders", "bob")

    assert live
    assert setting
    assert (live.limit.amount, setting.limit.amount) == (3, 2)


@pytest.mark.parametrize("text", ["", "many", "200", "-1/minute", "200/fortnight"])
def test_a_limit_that_is_not_understood_leaves_the_one_before(text: str) -> None:
    table = limits()

    with capture_logs() as logs:
        for _ in range(2):
            table.configure({"orders": text})

    allowance = table.take("orders", "ann")
    assert allowance
    assert allowance.limit.amount == 200
    assert [entry["event"] for entry in logs] == [
        "rate_limit_not_understood",
        "rate_limits_changed",
    ]


async def test_limits_that_are_off_are_warned_of(limited: Limited) -> None:
    table = limited("off")
    table.configure({"orders": "1/minute"})

    assert table.take("orders", "ann") is table.take("orders", "ann") is None


async def test_switching_limits_off_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.app.rate_limits", limits("off"))

    with capture_logs() as logs:
        async with warned():
            pass

    assert [(entry["log_level"], entry["event"]) for entry in logs] == [
        ("warning", "rate_limits_are_off")
    ]


async def test_limits_are_read_from_the_configuration_store(
    stand_in: StandInSidecar, limited: Limited
) -> None:
    table = limited("")
    stand_in.configurations["configstore"] = {
        "rate-limits.orders": "7/minute",
        "rate-limits.default": "9/hour",
    }

    assert await read_live_limits() == 0

    orders, products = table.take("orders", "ann"), table.take("products", "ann")
    assert orders
    assert products
    assert (orders.limit.amount, products.limit.amount) == (7, 9)


async def test_while_the_store_is_away_the_limits_stay(
    stand_in: StandInSidecar, limited: Limited
) -> None:
    table = limited("")
    table.configure({"orders": "7/minute"})
    stand_in.away = True

    assert await read_live_limits() == 0

    allowance = table.take("orders", "ann")
    assert allowance
    assert allowance.limit.amount == 7


async def test_who_calls_too_often_is_told_when_to_come_back(
    client: httpx.AsyncClient, limited: Limited
) -> None:
    limited("orders=1/minute")
    ann = bearer(uuid4())

    first = await client.get("/api/v1/orders", headers=ann)
    second = await client.get("/api/v1/orders", headers=ann)

    assert first.status_code == 200
    assert first.headers["ratelimit-policy"] == '"orders";q=1;w=60'
    assert first.headers["ratelimit"].startswith('"orders";r=0;t=')
    assert second.status_code == 429
    assert second.headers["content-type"] == "application/problem+json"
    assert second.json()["type"] == "urn:waybill:problem:too-many-requests"
    assert 0 < int(second.headers["retry-after"]) <= 60
    assert second.headers["ratelimit-policy"] == '"orders";q=1;w=60'


async def test_users_behind_one_address_do_not_share_a_limit(
    client: httpx.AsyncClient, limited: Limited
) -> None:
    limited("orders=1/minute")

    for _ in range(3):
        reply = await client.get("/api/v1/orders", headers=bearer(uuid4()))
        assert reply.status_code == 200


async def test_callers_without_a_token_share_the_limit_of_their_address(
    client: httpx.AsyncClient, limited: Limited
) -> None:
    limited("products=1/minute")
    spoofed = {"X-Forwarded-For": "198.51.100.1"}

    assert (await client.get("/api/v1/products")).status_code == 200
    assert (await client.get("/api/v1/products", headers=spoofed)).status_code == 429


async def test_guessing_tokens_is_limited_by_address(
    client: httpx.AsyncClient, limited: Limited
) -> None:
    limited("products=1/minute")

    guess = await client.get("/api/v1/products", headers={"Authorization": "Bearer guess"})

    assert guess.status_code == 401
    assert (await client.get("/api/v1/products")).status_code == 429


async def test_logging_in_has_a_limit_of_its_own(
    client: httpx.AsyncClient, limited: Limited
) -> None:
    limited("login=1/minute")

    assert (await client.post("/api/v1/users/login", json={})).status_code == 200
    assert (await client.post("/api/v1/users/login", json={})).status_code == 429
    assert (await client.post("/api/v1/users/register", json={})).status_code == 200


async def test_a_demonstration_from_one_machine_is_let_through(client: httpx.AsyncClient) -> None:
    for _ in range(25):
        for path in ("register", "login"):
            assert (await client.post(f"/api/v1/users/{path}", json={})).status_code == 200


def test_every_default_is_a_limit() -> None:
    with capture_logs() as logs:
        limits()

    assert logs == []
    assert set(DEFAULTS) <= LIMIT_NAMES | {"default"}
