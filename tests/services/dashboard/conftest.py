"""Fixtures for the tests of `dashboard`."""

from collections.abc import AsyncIterator

import pytest
from chassis.testing import serving
from dashboard.app import app as dashboard_app
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine


@pytest.fixture
def service() -> str:
    return "dashboard"


@pytest.fixture
def app(db: object) -> FastAPI:
    return dashboard_app


@pytest.fixture
async def served(concurrent_db: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """The service on a port of its own, with its workers; no sidecar. Its address."""
    async with serving(dashboard_app, monkeypatch) as url:
        yield url
