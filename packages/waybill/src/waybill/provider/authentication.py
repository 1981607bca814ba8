"""Lets only the holder of the secret key at the API."""

import base64
import binascii
import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from waybill.provider import errors


class SecretKeyRequired:
    """ASGI middleware: the key as a bearer token, or as the user name of basic authentication."""

    def __init__(self, app: ASGIApp, secret_key: str) -> None:
        self._app = app
        self._secret_key = secret_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = _presented_key(Headers(scope=scope).get("Authorization", ""))
        if not key:
            raise errors.unauthorized(
                "You did not provide an API key. Send it as 'Authorization: Bearer <secret key>'."
            )
        if not hmac.compare_digest(key.encode(), self._secret_key):
            raise errors.unauthorized("Invalid API Key provided.")
        await self._app(scope, receive, send)


def _presented_key(authorization: str) -> str:
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return ""
