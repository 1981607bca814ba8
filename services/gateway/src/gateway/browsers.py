"""What browsers need to be told: who may read our answers, and what ours may never do there."""

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.routing import METHODS

_ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-site",
}
_NOTHING = "default-src 'none'; frame-ancestors 'none'"
# Swagger UI writes style attributes and draws its icons from data URLs.
_DOCS = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "frame-ancestors 'none'"
)


class SecurityHeaders:
    """No Strict-Transport-Security: that is for whoever terminates TLS to promise."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_ALWAYS)
                docs = scope["path"].startswith("/docs")
                headers["content-security-policy"] = _DOCS if docs else _NOTHING
                headers.setdefault("cache-control", "no-cache" if docs else "no-store")
            await send(message)

        await self._app(scope, receive, secured)


def allow_origins(app: FastAPI, origins: tuple[str, ...]) -> None:
    """Lets scripts of these origins call the API, with tokens and without cookies."""
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=METHODS,
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "X-Correlation-Id"],
        expose_headers=[
            "Idempotent-Replayed",
            "Location",
            "RateLimit",
            "RateLimit-Policy",
            "Retry-After",
            "X-Correlation-Id",
        ],
        max_age=600,
    )
