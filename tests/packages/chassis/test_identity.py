"""Access tokens: only ours, only in time, only with keys that `users` publishes."""

import asyncio
import time
from typing import Any
from uuid import uuid4

import jwt
import pytest
from chassis.identity import NotAuthenticated, Role, TokenVerifier
from chassis.problems import Unavailable
from chassis.sidecar import sidecar
from chassis.testing import StandInSidecar, access_token, key_set
from cryptography.hazmat.primitives.asymmetric import rsa

JWKS = ".well-known/jwks.json"


@pytest.fixture
def verifier(stand_in: StandInSidecar) -> TokenVerifier:
    stand_in.answer("users", JWKS, key_set())
    return TokenVerifier()


async def test_a_token_names_the_caller(verifier: TokenVerifier) -> None:
    user, session = uuid4(), uuid4()
    caller = await verifier.verify(access_token(user, Role.STAFF, sid=str(session)))
    assert (caller.user_id, caller.role, caller.session_id) == (user, Role.STAFF, session)
    assert caller.is_staff


async def test_keys_are_asked_for_once(verifier: TokenVerifier, stand_in: StandInSidecar) -> None:
    for _ in range(3):
        await verifier.verify(access_token(uuid4()))
    assert stand_in.calls == [("users", JWKS)]


async def test_made_up_key_ids_do_not_become_calls(
    verifier: TokenVerifier, stand_in: StandInSidecar
) -> None:
    forger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for number in range(5):
        forged = jwt.encode({"sub": "x"}, forger, "RS256", headers={"kid": f"made-up-{number}"})
        with pytest.raises(NotAuthenticated, match="unknown key"):
            await verifier.verify(forged)
    assert len(stand_in.calls) == 1


async def test_a_known_key_id_does_not_make_a_forgery_good(verifier: TokenVerifier) -> None:
    forger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    claims = jwt.decode(access_token(uuid4()), options={"verify_signature": False})
    forged = jwt.encode(claims, forger, "RS256", headers={"kid": "test"})
    with pytest.raises(NotAuthenticated):
        await verifier.verify(forged)


async def test_an_unsigned_token_is_refused(verifier: TokenVerifier) -> None:
    claims = jwt.decode(access_token(uuid4()), options={"verify_signature": False})
    unsigned = jwt.encode(claims, "", "none", headers={"kid": "test"})
    with pytest.raises(NotAuthenticated):
        await verifier.verify(unsigned)


async def test_a_token_that_was_good_expires(verifier: TokenVerifier) -> None:
    token = access_token(uuid4(), exp=1)
    for _ in range(2):
        with pytest.raises(NotAuthenticated, match="expired"):
            await verifier.verify(token)


async def test_a_token_from_a_clock_that_is_ahead_is_good(verifier: TokenVerifier) -> None:
    """The hosts of `users` and of whoever verifies never agree to the second."""
    user, ahead = uuid4(), int(time.time()) + 600
    caller = await verifier.verify(access_token(user, iat=ahead, exp=ahead + 900))
    assert caller.user_id == user


def _without(claim: str) -> dict[str, Any]:
    return {claim: None}


@pytest.mark.parametrize("claim", ["sub", "exp", "iat", "iss", "aud"])
async def test_every_claim_is_needed(verifier: TokenVerifier, claim: str) -> None:
    with pytest.raises((NotAuthenticated, TypeError)):
        await verifier.verify(access_token(uuid4(), **_without(claim)))


async def test_without_keys_nobody_is_refused_but_nobody_gets_in(
    verifier: TokenVerifier, stand_in: StandInSidecar
) -> None:
    stand_in.answer("users", JWKS, {}, status=500)
    with pytest.raises(Unavailable):
        await verifier.verify(access_token(uuid4()))


async def test_those_who_wait_for_the_keys_share_one_failure(
    verifier: TokenVerifier, stand_in: StandInSidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def hang(*_: object, **__: object) -> None:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()

    monkeypatch.setattr(sidecar, "invoke", hang)
    monkeypatch.setattr("chassis.identity._FETCH_SECONDS", 0.05)
    waiting = [verifier.verify(access_token(uuid4())) for _ in range(20)]
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {Unavailable}
    assert asked == 1


async def test_a_malformed_key_set_refuses_nobody(
    verifier: TokenVerifier, stand_in: StandInSidecar
) -> None:
    stand_in.answer("users", JWKS, {"keys": "none"})
    with pytest.raises(Unavailable):
        await verifier.verify(access_token(uuid4()))
