"""Fixtures for tests that look at the platform through a browser."""

import shutil
from collections.abc import AsyncIterator

import pytest
from chassis.testing import serving
from dashboard.app import app as dashboard_app
from playwright.async_api import Page, async_playwright
from sqlalchemy.ext.asyncio import AsyncEngine

CHROMIUM_OPTIONS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]


@pytest.fixture
def service() -> str:
    return "dashboard"


@pytest.fixture
async def dashboard_url(
    concurrent_db: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[str]:
    """The dashboard on a port of its own, with its workers; no sidecar."""
    async with serving(dashboard_app, monkeypatch) as url:
        yield url


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """A page in the system's Chromium; the test fails if anything went wrong inside it."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_OPTIONS)
        page = await browser.new_page(viewport={"width": 1440, "height": 900})
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text))
        yield page
        await browser.close()
    assert complaints == []
