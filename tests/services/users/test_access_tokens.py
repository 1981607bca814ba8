"""Access tokens, and the key set that they are verified with."""

from datetime import UTC, datetime
from uuid import uuid4

import jwt
import pytest
from chassis.identity import Role, token_verifier
from chassis.testing import StandInSidecar
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from users.access_tokens import LIFETIME, AccessTokens, access_tokens, thumbprint
from users.app import signing_key as signing_key_of_the_secret_store

# RFC 7638, section 3.1
RFC_MODULUS = (
    "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWK"
    "RXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMic"
    "AtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3"
    "XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
)


def pem_of(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def test_the_key_id_is_thethumbprint_of_rfc_7638() -> None:
    from_the_rfc = {"kty": "RSA", "n": RFC_MODULUS, "e": "AQAB", "alg": "RS256", "kid": "2011"}

    assert thumbprint(from_the_rfc) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_a_token_says_who_and_how_long(signing_key: str) -> None:
    tokens = AccessTokens()
    tokens.use(signing_key)
    user, session, now = uuid4(), uuid4(), datetime.now(UTC)

    token = tokens.issue(user, Role.STAFF, session, now)

    key = jwt.PyJWKSet.from_dict(tokens.key_set).keys[0]
    claims = jwt.decode(token, key, ["RS256"], audience="waybill", issuer="waybill")
    assert claims["sub"] == str(user)
    assert claims["sid"] == str(session)
    assert claims["role"] == "staff"
    assert claims["exp"] - claims["iat"] == LIFETIME.total_seconds() == 900
    assert jwt.get_unverified_header(token) == {"alg": "RS256", "typ": "JWT", "kid": key.key_id}


def test_the_key_set_holds_nothing_private(signing_key: str) -> None:
    tokens = AccessTokens()
    tokens.use(signing_key)
    [key] = tokens.key_set["keys"]

    assert set(key) == {"kty", "n", "e", "kid", "alg", "use", "key_ops"}


def test_no_token_without_a_key() -> None:
    with pytest.raises(RuntimeError):
        AccessTokens().issue(uuid4(), Role.CUSTOMER, uuid4(), datetime.now(UTC))


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(public_exponent=65537, key_size=1024),
        ec.generate_private_key(ec.SECP256R1()),
    ],
)
def test_a_weak_key_is_refused(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> None:
    with pytest.raises(ValueError, match="RSA key of 2048 bits"):
        AccessTokens().use(pem_of(key))


async def test_the_service_signs_with_the_key_of_its_secret_store(
    stand_in: StandInSidecar, signing_key: str
) -> None:
    stand_in.secrets["users-secrets", "jwt-signing-key"] = signing_key
    user = uuid4()

    async with signing_key_of_the_secret_store():
        token = access_tokens.issue(user, Role.CUSTOMER, uuid4(), datetime.now(UTC))
        caller = await token_verifier.verify(token)

    assert caller.user_id == user
    assert stand_in.calls == []
