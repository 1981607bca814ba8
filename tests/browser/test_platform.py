"""The dashboard over the whole platform, seen in the system's Chromium."""

import pytest
from playwright.async_api import Page, expect
from waybill.project import Project
from waybill.shop import Shop

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.timeout(120)]

DASHBOARD = "http://127.0.0.1:8080/"


async def test_an_order_moves_on_the_page_without_a_reload(
    platform: Project, shop: Shop, page: Page
) -> None:
    await page.goto(DASHBOARD)
    loaded_at = await page.evaluate("performance.timeOrigin")
    customer = await shop.register("Page Watcher")
    order = await shop.order(customer, [{"sku": "MUG-ENAMEL", "quantity": 1}])
    short_id = order["id"][-8:]

    await expect(page.get_by_text(short_id).first).to_be_visible(timeout=15_000)
    await page.goto(f"{DASHBOARD}#order={order['id']}")
    await expect(page.get_by_text("Tracking number WB").first).to_be_visible(timeout=15_000)
    assert await page.evaluate("performance.timeOrigin") == loaded_at
