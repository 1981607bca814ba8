"""Bounds the client requests that a process has in hand, and refuses the others early."""

import asyncio

from prometheus_client import Counter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.problems import Unavailable, answer_to
from chassis.settings import settings

REFUSED = Counter("http_requests_refused_total", "Client requests that found no place.")

PATIENCE_SECONDS = 0.5

# Probes must tell a busy process from a dead one. What sidecars bring was accepted before: events,
# jobs, and what another service asks on behalf of a request that has its place there.
_ALWAYS_ADMITTED = (
    "/live",
    "/health",
    "/ready",
    "/metrics",
    "/dapr",
    "/events",
    "/job",
    "/internal",
    "/.well-known",
)


class TooBusy(Unavailable):
    """There is no place for another request."""


class Admission:
    """So many requests at work, and as many waiting for a moment; any other is answered 503.

    A place is taken until the answer begins, so that a stream does not keep one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._places = asyncio.Semaphore(settings().max_requests_in_flight)
        self._most_in_hand = 2 * settings().max_requests_in_flight
        self._in_hand = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_ALWAYS_ADMITTED):
            await self._app(scope, receive, send)
        elif self._in_hand >= self._most_in_hand:
            await _refuse(scope, receive, send)
        else:
            await self._wait_in_line(scope, receive, send)

    async def _wait_in_line(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._in_hand += 1
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._places.acquire()
        except BaseException as error:
            self._in_hand -= 1
            if not isinstance(error, TimeoutError):
                raise
            await _refuse(scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_place = True

        def leave() -> None:
            nonlocal has_place
            if has_place:
                has_place = False
                self._in_hand -= 1
                self._places.release()

        async def send_and_leave(message: Message) -> None:
            leave()
            await send(message)

        try:
            await self._app(scope, receive, send_and_leave)
        finally:
            leave()


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    REFUSED.inc()
    refusal = answer_to(TooBusy("Too much is asked at the moment; try again."))
    await refusal(scope, receive, send)
