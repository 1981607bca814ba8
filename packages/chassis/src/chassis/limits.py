"""Refuses a request whose body is larger than a service can want."""

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.problems import problem_response
from chassis.settings import settings

TOO_LARGE = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class BodyLimit:
    """Answers 413 by the declared length at once, and else by counting what arrives."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/events"):
            await self._app(scope, receive, send)
            return
        limit = settings().max_body_bytes
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdecimal() and int(declared) > limit:
            await problem_response(TOO_LARGE, _refusal(limit))(scope, receive, send)
        else:
            await self._app(scope, _counted(receive, limit), send)


def _refusal(limit: int) -> str:
    return f"The body may have {limit} bytes at most."


def _counted(receive: Receive, limit: int) -> Receive:
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            # FastAPI turns any other exception that reading the body raises into a 400.
            raise HTTPException(TOO_LARGE, _refusal(limit))
        return message

    return counted
