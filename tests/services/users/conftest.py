"""Fixtures for the tests of `users`."""

import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from chassis.identity import JWKS_PATH, token_verifier
from chassis.testing import StandInSidecar, key_set
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from fastapi import FastAPI

# Argon2 as light as it can be; it is read when `users` is imported.
os.environ |= {"ARGON2_MEMORY_KIB": "8", "ARGON2_TIME_COST": "1"}

from users.access_tokens import access_tokens
from users.app import app as users_app

PASSWORD = "correct horse battery staple"
LogIn = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
def service() -> str:
    return "users"


@pytest.fixture
def app(db: object, stand_in: StandInSidecar) -> FastAPI:
    return users_app


@pytest.fixture(scope="session")
def signing_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.fixture
def trusted_keys(signing_key: str, stand_in: StandInSidecar) -> None:
    """Trusts what the service itself signs, and what `bearer` makes."""
    access_tokens.use(signing_key)
    both = {"keys": access_tokens.key_set["keys"] + key_set()["keys"]}
    token_verifier.trust(both)
    stand_in.answer("users", JWKS_PATH, both)


@pytest.fixture
def register(client: httpx.AsyncClient) -> Callable[..., Awaitable[httpx.Response]]:
    async def post(**fields: Any) -> httpx.Response:
        ann = {"email": "ann@waybill.example", "password": PASSWORD, "name": "Ann"}
        headers = {"Content-Type": "application/json"}
        body = json.dumps(ann | fields)  # unlike httpx, it escapes what UTF-8 cannot encode
        return await client.post("/users/register", content=body, headers=headers)

    return post


@pytest.fixture
def log_in(client: httpx.AsyncClient) -> LogIn:
    """The tokens of a fresh login, and under `headers` what a request of its session carries."""

    async def post(email: str = "ann@waybill.example", password: str = PASSWORD) -> dict[str, Any]:
        reply = await client.post("/users/login", json={"email": email, "password": password})
        assert reply.status_code == 200, reply.text
        bearer = {"Authorization": f"Bearer {reply.json()['access_token']}"}
        return {**reply.json(), "headers": bearer}

    return post
