"""What is always true of accounts and refresh tokens, without I/O."""

import string
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from chassis.identity import Role
from contracts.users import UserUpdated
from hypothesis import given
from hypothesis import strategies as st
from users.domain import (
    REFRESH_LIFETIME,
    REGISTRATION_REPLAY,
    REPLAY_GRACE,
    Account,
    Profile,
    RefreshToken,
    RefreshTokenReused,
    StaleVersion,
    digest_of,
    new_account,
    new_refresh_token,
    new_session,
    normalise_email,
    normalise_password,
    record_of,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)
local_parts = st.text(string.ascii_letters + string.digits + "+_-", min_size=1, max_size=40)


def an_account(**changes: Any) -> Account:
    return Account(**new_account("ann@waybill.example", "hash", Profile(name="Ann"), NOW) | changes)


@given(local_parts)
def test_an_email_has_one_spelling(local_part: str) -> None:
    address = normalise_email(f"{local_part}@Waybill.Example")

    assert address == f"{local_part.lower()}@waybill.example"
    assert normalise_email(address) == normalise_email(address.upper()) == address


@pytest.mark.parametrize(
    "text", ["", "ann", "ann@", "ann@localhost", "ann\x00@waybill.example", "änn@waybill.example"]
)
def test_what_no_mail_can_be_sent_to_is_no_email(text: str) -> None:
    with pytest.raises(ValueError, match=r"email|@"):
        normalise_email(text)


def test_a_password_is_the_same_from_every_keyboard() -> None:
    assert normalise_password("cafe\u0301") == normalise_password("caf\u00e9")


def test_a_new_account_is_announced_with_its_profile() -> None:
    event = an_account().registered()

    assert (event.email, event.name, event.user_version) == ("ann@waybill.example", "Ann", 1)
    assert event.email_notifications


def test_a_login_is_announced_without_personal_data() -> None:
    account = an_account()

    assert account.logged_in(NOW).model_dump() == {"user_id": account.id, "occurred_at": NOW}


def test_a_changed_profile_is_announced_under_its_next_version() -> None:
    account = an_account()

    event = account.change({"name": "Anna", "phone": "+4712345678"}, 1, NOW + INSTANT)

    assert event == UserUpdated(
        user_id=account.id,
        occurred_at=NOW + INSTANT,
        user_version=2,
        email="ann@waybill.example",
        name="Anna",
    )
    assert account.profile == Profile(name="Anna", phone="+4712345678")
    assert account.updated_at == NOW + INSTANT


def test_the_same_change_again_is_no_change() -> None:
    account = an_account()
    account.change({"name": "Anna"}, 1, NOW)

    assert account.change({"name": "Anna"}, 1, NOW) is None
    assert account.version == 2


@pytest.mark.parametrize("version", [0, 1, 3])
def test_a_change_to_another_version_is_refused(version: int) -> None:
    account = an_account()
    account.change({"name": "Anna"}, 1, NOW)

    with pytest.raises(StaleVersion) as refusal:
        account.change({"name": "Annie"}, version, NOW)

    assert refusal.value.extra == {"version": 2}
    assert account.name == "Anna"


def test_an_erased_account_has_nothing_personal_left() -> None:
    address = {"line1": "1 Long Lane", "city": "Oslo", "postal_code": "0150", "country": "NO"}
    account = an_account(phone="+4712345678", default_address=address, role=Role.STAFF)

    event = account.erase(NOW)

    assert event.model_dump() == {"user_id": account.id, "occurred_at": NOW}
    assert (account.email, account.password_hash, account.name) == (None, None, "")
    assert (account.phone, account.default_address) == (None, None)
    assert (account.deleted_at, account.version, account.email_notifications) == (NOW, 2, False)


def test_only_the_same_registration_within_moments_is_a_repeat() -> None:
    account = an_account()
    last = NOW + REGISTRATION_REPLAY - INSTANT

    assert account.is_repeated_by("Ann", last)
    assert not account.is_repeated_by("Anna", last)
    assert not account.is_repeated_by("Ann", NOW + REGISTRATION_REPLAY)


def test_a_session_lives_for_the_refresh_lifetime_from_its_last_use() -> None:
    login = new_session(uuid4(), "curl", NOW)
    login.prolong(NOW + timedelta(days=1))

    assert login.expires_at == NOW + timedelta(days=1) + REFRESH_LIFETIME
    assert login.created_at == NOW


def a_token() -> tuple[str, RefreshToken]:
    token = new_refresh_token()
    return token, record_of(token, uuid4(), NOW)


def test_of_a_token_only_its_digest_is_kept() -> None:
    token, record = a_token()

    assert record.digest == digest_of(token)
    assert token.encode() not in record.digest
    assert record.expires_at == NOW + REFRESH_LIFETIME


def test_a_spent_token_has_the_same_successor_within_the_grace() -> None:
    token, record = a_token()
    successor = record.spend(token, NOW)

    assert successor != token
    assert record.spend(token, NOW + REPLAY_GRACE) == successor


def test_a_spent_token_past_the_grace_is_stolen() -> None:
    token, record = a_token()
    record.spend(token, NOW)

    with pytest.raises(RefreshTokenReused):
        record.spend(token, NOW + REPLAY_GRACE + INSTANT)


def test_a_token_whose_seed_is_forgotten_has_no_successor() -> None:
    token, record = a_token()
    record.spend(token, NOW)
    record.successor_seed = None

    with pytest.raises(RefreshTokenReused):
        record.spend(token, NOW)


def test_successors_cannot_be_told_from_the_token_alone() -> None:
    token, record = a_token()
    other = record_of(token, record.session_id, NOW)

    assert record.spend(token, NOW) != other.spend(token, NOW)
