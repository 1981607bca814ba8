"""Puts the payment provider together."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from waybill.provider.api import Api
from waybill.provider.approval import ApprovalPage
from waybill.provider.cashier import Cashier
from waybill.provider.errors import ApiError, error_body
from waybill.provider.settings import Settings
from waybill.provider.store import Store
from waybill.provider.webhooks import Dispatcher


def create_app(settings: Settings) -> Starlette:
    store = Store(settings.state_dir)
    dispatcher = Dispatcher(store, settings)
    cashier = Cashier(
        store,
        public_url=settings.public_url.rstrip("/"),
        webhook_delay=settings.webhook_delay_ms / 1000,
    )

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        app.state.deliveries = asyncio.create_task(dispatcher.run())
        yield
        app.state.deliveries.cancel()
        with suppress(asyncio.CancelledError):
            await app.state.deliveries
        store.close()

    async def health(request: Request) -> Response:
        """Down when deliveries have died, for then no client would ever hear of a charge."""
        alive = not request.app.state.deliveries.done()
        body = {"status": "ok" if alive else "failed", "pending_webhooks": store.pending_webhooks()}
        return JSONResponse(body, 200 if alive else 503)

    return Starlette(
        routes=[
            Api(settings, store, cashier, dispatcher.wake).routes(),
            *ApprovalPage(store, cashier, dispatcher.wake).routes(),
            Route("/health", health),
        ],
        exception_handlers={
            ApiError: _refused,
            HTTPException: _unrecognised,
            Exception: _failed,
        },
        lifespan=lifespan,
    )


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101  # Starlette's signature is wider than its calls
    headers = (
        {"WWW-Authenticate": 'Basic realm="Stripe"'}
        if error.status == HTTPStatus.UNAUTHORIZED
        else None
    )
    return JSONResponse(error.body, error.status, headers)


async def _unrecognised(request: Request, _: Exception) -> Response:
    message = f"Unrecognized request URL ({request.method}: {request.url.path})."
    return JSONResponse(error_body("invalid_request_error", message), 404)


async def _failed(_: Request, __: Exception) -> Response:
    return JSONResponse(error_body("api_error", "An unknown error occurred."), 500)
