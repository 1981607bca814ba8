"""HTTP out: the page, what it shows, and the stream that keeps it current."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from uuid import UUID

import structlog
from chassis.database import Session
from chassis.problems import NotFound
from contracts.orders import OrderStatus
from fastapi import APIRouter, Request, Response
from fastapi.templating import Jinja2Templates
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from dashboard.broadcast import broadcast
from dashboard.snapshot import Journey, Snapshot, journey_of, take_snapshot

log = structlog.get_logger(__name__)

router = APIRouter()

_HERE = Path(__file__).parent
_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "object-src 'none'; require-trusted-types-for 'script'"
    ),
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_RECONNECT_MILLISECONDS = 2_000
SEND_TIMEOUT_SECONDS = 20

templates = Jinja2Templates(_HERE / "templates")


class OrderUnknown(NotFound):
    pass


class Assets(StaticFiles):
    """Asked for anew at each load, so that a new release's page never runs the old one's script."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


class Stream(EventSourceResponse):
    """Lets go of a page that stopped reading; if it still lives, its browser connects again."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            log.info("viewer_dropped")


assets = Assets(directory=_HERE / "static")


@router.get("/", include_in_schema=False)
async def page(request: Request) -> Response:
    context = {"statuses": list(OrderStatus)}
    return templates.TemplateResponse(request, "index.html", context, headers=_PAGE_HEADERS)


@router.get("/api/snapshot")
async def read_snapshot(session: Session) -> Snapshot:
    return await take_snapshot(session)


@router.get("/api/orders/{order_id}")
async def read_journey(order_id: UUID, session: Session) -> Journey:
    journey = await journey_of(session, order_id)
    if journey is None:
        raise OrderUnknown(f"Nothing was heard of an order {order_id}.")
    return journey


@router.get("/api/stream", response_class=Stream)
async def stream() -> Stream:
    """Snapshots as server-sent events named `snapshot`, each complete; nothing needs resuming."""
    return Stream(_events(broadcast.snapshots()), send_timeout=SEND_TIMEOUT_SECONDS)


async def _events(snapshots: AsyncGenerator[str, None]) -> AsyncGenerator[ServerSentEvent, None]:
    async with aclosing(snapshots):
        async for snapshot in snapshots:
            yield ServerSentEvent(snapshot, event="snapshot", retry=_RECONNECT_MILLISECONDS)
