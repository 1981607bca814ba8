"""Somebody watches the dashboard while an order is on its way."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from chassis.testing import Delivered
from contracts.orders import (
    Address,
    OrderCreated,
    OrderLine,
    OrderStatus,
    OrderStatusChanged,
)
from contracts.tracking import ShipmentCreated
from playwright.async_api import Page, expect

pytestmark = pytest.mark.browser

EMAIL = "anna@example.com"


@pytest.fixture
async def deliver(dashboard_url: str) -> AsyncIterator[Delivered]:
    async with httpx.AsyncClient(base_url=dashboard_url) as client:
        yield Delivered(client)


@pytest.fixture
async def dashboard(dashboard_url: str, page: Page) -> Page:
    """The open page. It is closed before the server is."""
    await page.goto(dashboard_url)
    await expect(page.locator("#connection")).to_have_text("Live")
    return page


def about(order_id: UUID, **fields: Any) -> dict[str, Any]:
    return {"order_id": order_id, "user_id": uuid4(), "occurred_at": datetime.now(UTC), **fields}


def created(order_id: UUID) -> OrderCreated:
    fields = about(order_id, order_version=1, total=9_800, currency="EUR")
    return OrderCreated(
        **fields,
        lines=(OrderLine(sku="LAMP", name="Desk lamp", quantity=2, unit_price=4_900),),
        shipping_address=Address(line1=EMAIL, city="Oslo", postal_code="0150", country="NO"),
        payment_method="pm_card_ok",
    )


def moved(order_id: UUID, version: int, status: OrderStatus) -> OrderStatusChanged:
    fields = about(order_id, order_version=version, status=status)
    return OrderStatusChanged(**fields, previous_status=OrderStatus.PENDING)


async def expect_counts(page: Page, **expected: int) -> None:
    for status, count in expected.items():
        await expect(page.locator(f"#count-{status}")).to_have_text(str(count))


async def test_an_order_moves_on_the_page_without_a_reload(
    dashboard: Page, deliver: Delivered
) -> None:
    order_id = uuid4()
    await dashboard.evaluate("window.neverReloaded = true")
    await expect_counts(dashboard, pending=0, processing=0, shipped=0)

    await deliver(created(order_id))
    await expect_counts(dashboard, pending=1, processing=0, shipped=0)
    await deliver(moved(order_id, 2, OrderStatus.PROCESSING))
    await expect_counts(dashboard, pending=0, processing=1, shipped=0)
    await deliver(ShipmentCreated(**about(order_id, shipment_id=uuid4(), tracking_number="WB42")))
    await deliver(moved(order_id, 3, OrderStatus.SHIPPED))
    await expect_counts(dashboard, pending=0, processing=0, shipped=1)

    assert await dashboard.evaluate("window.neverReloaded")
    await expect(dashboard.locator("#feed .phrase")).to_have_text(
        [
            "Order now shipped",
            "Tracking number WB42",
            "Order now processing",
            "Order placed: 2 items",
        ]
    )
    await expect(dashboard.locator("#chart rect.placed")).to_have_count(1)
    assert EMAIL not in await dashboard.content()


async def test_the_journey_of_an_order_opens_by_keyboard_and_goes_on_while_it_is_open(
    dashboard: Page, deliver: Delivered
) -> None:
    order_id = uuid4()
    await deliver(created(order_id))

    await dashboard.locator("#feed button").focus()
    await dashboard.keyboard.press("Enter")
    steps = dashboard.locator("#journey .timeline .phrase")
    await expect(steps).to_have_count(1)
    await deliver(moved(order_id, 2, OrderStatus.PROCESSING))

    await expect(steps).to_have_count(2)
    await expect(dashboard.locator("#journey .badge")).to_have_text("processing")
    await dashboard.keyboard.press("Escape")
    await expect(dashboard.locator("#journey")).not_to_be_visible()


async def test_a_paused_feed_stands_still_and_catches_up(
    dashboard: Page, deliver: Delivered
) -> None:
    await expect(dashboard.locator("#feed-empty")).to_be_visible()
    await dashboard.locator("#pause").click()
    await deliver(created(uuid4()), created(uuid4()))

    await expect(dashboard.locator("#pause")).to_have_text("Resume, 2 new")
    await expect(dashboard.locator("#feed li")).to_have_count(0)
    await dashboard.locator("#pause").click()
    await expect(dashboard.locator("#feed li")).to_have_count(2)


@pytest.mark.parametrize("width", [360, 1440])
async def test_the_page_never_scrolls_sideways(
    dashboard: Page, deliver: Delivered, width: int
) -> None:
    await dashboard.set_viewport_size({"width": width, "height": 800})
    await deliver(created(uuid4()))
    await expect_counts(dashboard, pending=1)

    assert await dashboard.evaluate("document.documentElement.scrollWidth") == width
