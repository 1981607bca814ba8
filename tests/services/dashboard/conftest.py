"""Fixtures for the tests of `dashboard`."""

import contextlib
from collections.abc import AsyncIterator

import pytest
import uvicorn
from chassis.sidecar import sidecar
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
    monkeypatch.setattr(sidecar, "connected", contextlib.nullcontext)
    config = uvicorn.Config(dashboard_app, port=0, log_level="warning", timeout_graceful_shutdown=5)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    yield "http://{}:{}".format(*server.servers[0].sockets[0].getsockname())
    await server.shutdown()
