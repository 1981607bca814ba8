"""Composition root of `users`."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from chassis.app import create_app
from chassis.identity import token_verifier
from chassis.sidecar import sidecar

from users.access_tokens import access_tokens
from users.api import keys, router
from users.use_cases import sweeper


@asynccontextmanager
async def signing_key() -> AsyncGenerator[None]:
    """The key comes from the secret store; `users` trusts its own without asking itself."""
    access_tokens.use(await sidecar.secret("users-secrets", "jwt-signing-key"))
    token_verifier.trust(access_tokens.key_set)
    yield


app = create_app("users", routers=[router, keys], workers=[sweeper], lifespan=signing_key)
