"""Composition root of `gateway`."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from chassis.app import create_app
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles

from gateway import api, openapi
from gateway.browsers import SecurityHeaders, allow_origins
from gateway.rate_limits import live_limits, rate_limits
from gateway.settings import gateway_settings

log = structlog.get_logger(__name__)


@asynccontextmanager
async def warned() -> AsyncGenerator[None]:
    if rate_limits.off:
        log.warning("rate_limits_are_off", setting="WAYBILL_RATE_LIMITS")
    yield


app = create_app(
    "gateway",
    routers=[openapi.router, api.router],
    workers=[live_limits],
    lifespan=warned,
    docs=False,  # the page below shows the whole API
)
app.add_api_route("/docs", lambda: RedirectResponse("/docs/"), include_in_schema=False)
app.mount(
    "/docs",
    StaticFiles(
        directory=Path(__file__).with_name("docs"),
        packages=[("fastapi_swagger", "resources")],
        html=True,
    ),
)

app.add_middleware(SecurityHeaders)
if gateway_settings().cors_allow_origins:
    allow_origins(app, gateway_settings().cors_allow_origins)
