"""Signs access tokens, and publishes the key that everybody else verifies them with."""

import base64
import hashlib
import json
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import jwt
from chassis.identity import ALGORITHM
from chassis.settings import settings
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import RSAAlgorithm

LIFETIME = timedelta(minutes=15)
_FEWEST_BITS = 2048


class AccessTokens:
    """Knows no key until `use` was called.

    A token is verified by its signature alone, nobody is asked: it outlives a logout, a deleted
    or disabled account and a changed role by `LIFETIME` at most.
    """

    def __init__(self) -> None:
        self._key: RSAPrivateKey | None = None
        self._public: dict[str, Any] = {}

    def use(self, pem: str) -> None:
        """Raises `ValueError` unless this is an RSA private key of 2048 bits or more."""
        key = load_pem_private_key(pem.encode(), password=None)
        if not isinstance(key, RSAPrivateKey) or key.key_size < _FEWEST_BITS:
            raise ValueError(f"Access tokens need an RSA key of {_FEWEST_BITS} bits at least.")
        self._key = key
        self._public = _jwk(key)

    @property
    def key_set(self) -> dict[str, Any]:
        """The JSON Web Key Set (RFC 7517)."""
        return {"keys": [self._public]}

    def issue(self, user_id: UUID, role: str, session_id: UUID, now: datetime) -> str:
        if self._key is None:
            raise RuntimeError("AccessTokens.use() was not called")
        claims = {
            "sub": str(user_id),
            "role": role,
            "sid": str(session_id),
            "iss": settings().jwt_issuer,
            "aud": settings().jwt_audience,
            "iat": now,
            "exp": now + LIFETIME,
        }
        return jwt.encode(claims, self._key, ALGORITHM, headers={"kid": self._public["kid"]})


def _jwk(key: RSAPrivateKey) -> dict[str, Any]:
    public = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**public, "kid": thumbprint(public), "alg": ALGORITHM, "use": "sig"}


def thumbprint(jwk: dict[str, Any]) -> str:
    """RFC 7638: the id follows from the key, so replicas agree on it and a new key has another."""
    required = {name: jwk[name] for name in ("e", "kty", "n")}
    canonical = json.dumps(required, separators=(",", ":"), sort_keys=True)
    digest = hashlib.sha256(canonical.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


access_tokens = AccessTokens()
