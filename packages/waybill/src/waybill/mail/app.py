"""Puts the mail sink together: SMTP in, HTTP out."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Response

from waybill.mail.settings import Settings
from waybill.mail.smtp import listen
from waybill.mail.store import Filter, Message, Store

# A mail may load nothing and run nothing: its frame inherits this from the page.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline';"
    " connect-src 'self'; img-src data:; frame-src 'self'"
)
PAGE = {
    "/": ("mailbox.html", "text/html"),
    "/mailbox.css": ("mailbox.css", "text/css"),
    "/mailbox.js": ("mailbox.js", "text/javascript"),
}


def create_app(settings: Settings) -> FastAPI:
    store = Store(settings.state_dir, settings.keep)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        server = await listen(store, settings)
        app.state.smtp_port = server.sockets[0].getsockname()[1]
        yield
        server.close()
        store.close()

    app = FastAPI(title="Mail sink", lifespan=lifespan, docs_url=None, redoc_url=None)
    _add_api(app, store)
    for path, (name, media_type) in PAGE.items():
        _add_file(app, path, name, media_type)
    return app


def _add_api(app: FastAPI, store: Store) -> None:
    """The routes are coroutines so that they share the store's thread."""

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "messages": store.count(Filter())}

    @app.get("/api/messages")
    async def list_messages(
        to: Annotated[str | None, Query(max_length=320)] = None,
        q: Annotated[str | None, Query(max_length=200)] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
        after: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
    ) -> dict[str, Any]:
        """Newest first; with `after` (an id) what came later, oldest first."""
        wanted = Filter(to=to, q=q, after=after)
        items = [_shown(message) for message in store.find(wanted, limit)]
        return {"items": items, "total": store.count(wanted)}

    @app.get("/api/messages/{message_id}")
    async def get_message(message_id: int) -> dict[str, Any]:
        message = store.get(message_id)
        if message is None:
            raise HTTPException(404, "There is no such message.")
        return _shown(message)

    @app.delete("/api/messages", status_code=204)
    async def delete_messages() -> None:
        store.clear()


def _add_file(app: FastAPI, path: str, name: str, media_type: str) -> None:
    content = files("waybill.mail").joinpath(name).read_text(encoding="utf-8")
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Cache-Control": "no-cache"}

    @app.get(path, include_in_schema=False)
    async def file() -> Response:
        return Response(content, media_type=media_type, headers=headers)


def _shown(message: Message) -> dict[str, Any]:
    return {
        "id": message.id,
        "from": message.sender,
        "to": message.recipients,
        "subject": message.subject,
        "received_at": message.received_at,
        "text": message.text,
        "html": message.html,
    }
