"""Who is calling: verifies access tokens, and keeps sidecar-only routes to the sidecar."""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, ClassVar
from uuid import UUID

import jwt
from cachetools import LRUCache
from fastapi import Depends, Request

from chassis.problems import Problem, Unavailable
from chassis.settings import settings
from chassis.sidecar import sidecar

ALGORITHM = "RS256"
JWKS_PATH = ".well-known/jwks.json"
_REFETCH_AFTER_SECONDS = 10.0
_AFTER_FAILURE_SECONDS = 0.5
_FETCH_SECONDS = 3
_NO_KEYS = "The keys that tokens are verified with cannot be had."


class Role(StrEnum):
    CUSTOMER = "customer"
    CARRIER = "carrier"
    STAFF = "staff"
    ADMIN = "admin"


class NotAuthenticated(Problem):
    status = 401
    headers: ClassVar = {"WWW-Authenticate": "Bearer"}


class NotAllowed(Problem):
    status = 403


@dataclass(frozen=True)
class Caller:
    """The subject of a verified access token."""

    user_id: UUID
    role: Role
    session_id: UUID | None
    expires_at: int

    @property
    def is_staff(self) -> bool:
        return self.role in {Role.STAFF, Role.ADMIN}


class TokenVerifier:
    """Verifies RS256 access tokens against the key set that `users` publishes.

    Keys are parsed once. An unknown key id makes it ask for the set again, but at most every
    ten seconds: a forger must not be able to turn made-up ids into calls.
    """

    def __init__(self) -> None:
        self._keys: dict[str, Any] = {}
        self._asked_at = float("-inf")
        self._patience = 0.0
        self._fetching = asyncio.Lock()
        self._verified: LRUCache[str, Caller] = LRUCache(maxsize=10_000)

    def trust(self, key_set: dict[str, Any]) -> None:
        self._keys = {key.key_id or "": key.key for key in jwt.PyJWKSet.from_dict(key_set).keys}
        self._verified.clear()

    async def verify(self, token: str) -> Caller:
        """Raises `NotAuthenticated`, or `Unavailable` if the keys cannot be had."""
        known = self._verified.get(token)
        if known and known.expires_at > time.time():
            return known
        caller = _caller(self._claims(token, await self._key_of(token)))
        self._verified[token] = caller
        return caller

    async def _key_of(self, token: str) -> Any:
        try:
            key_id = str(jwt.get_unverified_header(token).get("kid"))
        except jwt.InvalidTokenError as error:
            raise NotAuthenticated("The access token is not a JWT.") from error
        if key_id not in self._keys:
            async with self._fetching:
                await self._fetch(key_id)
        if key_id not in self._keys:
            raise NotAuthenticated("The access token is signed with an unknown key.")
        return self._keys[key_id]

    async def _fetch(self, key_id: str) -> None:
        """One of those who wait for the same key asks; the others find what it got."""
        if key_id in self._keys:
            return
        if time.monotonic() - self._asked_at < self._patience:
            if self._patience == _AFTER_FAILURE_SECONDS:
                raise Unavailable(_NO_KEYS)  # a good token must not be refused for that
            return
        self._patience = _AFTER_FAILURE_SECONDS
        try:
            async with asyncio.timeout(_FETCH_SECONDS):
                reply = await sidecar.invoke("users", JWKS_PATH)
            if not reply.ok:
                raise Unavailable(_NO_KEYS)
            self.trust(reply.json())
            self._patience = _REFETCH_AFTER_SECONDS
        except (TimeoutError, ValueError, jwt.PyJWTError) as error:
            raise Unavailable(_NO_KEYS) from error
        finally:
            self._asked_at = time.monotonic()  # those who waited for this answer share it

    def _claims(self, token: str, key: Any) -> dict[str, Any]:
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                issuer=settings().jwt_issuer,
                audience=settings().jwt_audience,
                # When it was issued bounds nothing: a clock that is a second behind that of `users`
                # would refuse every new token.
                options={"require": ["exp", "iat", "iss", "aud", "sub"], "verify_iat": False},
            )
        except jwt.ExpiredSignatureError as error:
            raise NotAuthenticated("The access token has expired.") from error
        except jwt.InvalidTokenError as error:
            raise NotAuthenticated("The access token is not valid.") from error


def _caller(claims: dict[str, Any]) -> Caller:
    try:
        session_id = UUID(claims["sid"]) if "sid" in claims else None
        role = Role(claims.get("role", ""))
        return Caller(UUID(claims["sub"]), role, session_id, int(claims["exp"]))
    except (ValueError, TypeError, AttributeError) as error:
        raise NotAuthenticated("The access token names no user of ours.") from error


token_verifier = TokenVerifier()


async def authenticate(request: Request) -> Caller:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise NotAuthenticated("An access token is required: Authorization: Bearer ….")
    return await token_verifier.verify(token)


def require(*roles: Role) -> Callable[[Caller], Awaitable[Caller]]:
    """A dependency that lets only these roles in; the others get 403."""

    async def check(caller: Annotated[Caller, Depends(authenticate)]) -> Caller:
        if caller.role not in roles:
            raise NotAllowed(f"This needs the role {' or '.join(roles)}.")
        return caller

    return check


User = Annotated[Caller, Depends(authenticate)]
Staff = Annotated[Caller, Depends(require(Role.STAFF, Role.ADMIN))]
Admin = Annotated[Caller, Depends(require(Role.ADMIN))]


async def require_app_token(request: Request) -> None:
    """Lets only the own sidecar in: it sends the token that both were started with."""
    given = request.headers.get("dapr-api-token", "")
    if not hmac.compare_digest(given.encode(), settings().app_api_token.encode()):
        raise NotAllowed("This route is for the sidecar only.")
