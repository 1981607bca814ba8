"""Refuses a request whose body is larger than a service can want."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.problems import problem_response
from chassis.settings import settings


class BodyTooLarge(Exception):
    pass


class BodyLimit:
    """Answers 413 by the declared length at once, and else by counting what arrives."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/events/"):
            await self._app(scope, receive, send)
            return
        limit = settings().max_body_bytes
        refusal = problem_response(413, f"The body may have {limit} bytes at most.")
        if int(Headers(scope=scope).get("content-length") or 0) > limit:
            await refusal(scope, receive, send)
            return
        try:
            await self._app(scope, _counted(receive, limit), send)
        except BodyTooLarge:
            await refusal(scope, receive, send)


def _counted(receive: Receive, limit: int) -> Receive:
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise BodyTooLarge
        return message

    return counted
