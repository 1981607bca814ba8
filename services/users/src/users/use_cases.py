"""Registering, logging in and staying logged in; changing and deleting an account."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog
from chassis.database import database
from chassis.event_log import append
from chassis.identity import NotAuthenticated
from chassis.problems import Conflict, NotFound, Problem, Unavailable
from chassis.worker import Worker
from sqlalchemy.ext.asyncio import AsyncSession

from users import store
from users.access_tokens import access_tokens
from users.domain import (
    Account,
    LoginSession,
    Profile,
    RefreshToken,
    RefreshTokenReused,
    digest_of,
    new_account,
    new_refresh_token,
    new_session,
    record_of,
)
from users.passwords import passwords

log = structlog.get_logger(__name__)


class EmailTaken(Conflict):
    pass


class UserNotFound(NotFound):
    pass


class SessionNotFound(NotFound):
    pass


class InvalidCredentials(NotAuthenticated):
    pass


class InvalidRefreshToken(NotAuthenticated):
    pass


class AccountDisabled(Problem):
    status = 403


class AccountChanged(Unavailable):
    pass


@dataclass(frozen=True)
class Tokens:
    access: str
    refresh: str


async def register(email: str, password: str, name: str) -> tuple[Account, bool]:
    """The new account, and whether it was there already; raises `EmailTaken`.

    A registration is its own idempotency key: the same e-mail, name and password within a minute
    is the sidecar, or a customer's second click, repeating what succeeded. So no fingerprint of a
    password is stored anywhere, and who does not know the password learns nothing new.
    """
    now = datetime.now(UTC)
    row = new_account(email, await passwords.hash(password), Profile(name=name), now)
    async with database.transaction() as session:
        if account := await store.add_account(session, row):
            await append(session, account.registered())
            return account, False
        account = await store.account_of(session, email)
    if not account or not account.is_repeated_by(name, now):
        raise EmailTaken("There is an account with this e-mail address.")
    if not await passwords.verify(account.password_hash, password):
        raise EmailTaken("There is an account with this e-mail address.")
    return account, True


async def log_in(email: str, password: str, user_agent: str) -> Tokens:
    """Raises `InvalidCredentials`, alike for whatever was wrong, or `AccountDisabled`.

    No connection is held while Argon2 runs. A repeat leaves a session that nobody uses.
    """
    async with database.transaction() as session:
        account = await store.account_of(session, email)
    stored = account.password_hash if account else None
    if not await passwords.verify(stored, password) or not account or not stored:
        raise InvalidCredentials("The e-mail address or the password is wrong.")
    renewed = await passwords.renewed(stored, password)
    async with database.transaction() as session:
        account = await store.account(session, account.id, lock=True)
        if not account or account.password_hash != stored:
            raise AccountChanged("The account was changed at this very moment; try again.")
        account.password_hash = renewed
        return await _open_session(session, account, user_agent)


async def _open_session(session: AsyncSession, account: Account, user_agent: str) -> Tokens:
    if account.disabled:
        raise AccountDisabled("This account is disabled.")
    now = datetime.now(UTC)
    opened = new_session(account.id, user_agent, now)
    token = new_refresh_token()
    session.add(opened)
    await session.flush()
    session.add(record_of(token, opened.id, now))
    await store.end_surplus_sessions(session, account.id)
    await append(session, account.logged_in(now))
    return Tokens(access_tokens.issue(account.id, account.role, opened.id, now), token)


async def refresh(token: str) -> Tokens:
    """Exchanges a refresh token; raises `InvalidRefreshToken`.

    The transaction ends before it raises, for a reused token's revocation must be committed.
    """
    async with database.transaction() as session:
        tokens = await _exchange(session, token, datetime.now(UTC))
    if tokens is None:
        raise InvalidRefreshToken("The refresh token is not valid any more; log in again.")
    return tokens


async def _exchange(session: AsyncSession, token: str, now: datetime) -> Tokens | None:
    login = await store.lock_session_of(session, digest_of(token))
    record = await session.get(RefreshToken, digest_of(token)) if login else None
    if not login or not record or record.expires_at <= now:
        return None
    try:
        successor = record.spend(token, now)
    except RefreshTokenReused:
        log.warning("refresh_token_reused", user_id=login.user_id, session_id=login.id)
        await session.delete(login)
        return None
    return await _prolong(session, login, successor, now)


async def _prolong(
    session: AsyncSession, login: LoginSession, successor: str, now: datetime
) -> Tokens:
    if await session.get(RefreshToken, digest_of(successor)) is None:
        session.add(record_of(successor, login.id, now))
    login.prolong(now)
    await store.forget_seeds(session, login.id, now)
    account = await session.get_one(Account, login.user_id)
    return Tokens(access_tokens.issue(account.id, account.role, login.id, now), successor)


async def end_session(session: AsyncSession, user_id: UUID, session_id: UUID) -> None:
    """Raises `SessionNotFound` for someone else's session, as for one that is not there."""
    if not await store.end_session(session, user_id, session_id):
        raise SessionNotFound(f"There is no session {session_id}.")


async def get_account(session: AsyncSession, user_id: UUID) -> Account:
    """Raises `UserNotFound`, also once the account is deleted."""
    return _found(await store.account(session, user_id), user_id)


async def change_account(
    session: AsyncSession, user_id: UUID, changes: Mapping[str, Any], version: int
) -> Account:
    """Raises `UserNotFound` or `StaleVersion`; who is disabled is logged out."""
    account = _found(await store.account(session, user_id, lock=True), user_id)
    if event := account.change(changes, version, datetime.now(UTC)):
        await append(session, event)
    if account.disabled:
        await store.end_sessions(session, user_id)
    return account


async def delete_account(session: AsyncSession, user_id: UUID) -> None:
    """Raises `UserNotFound` for an account that never was; deleting again changes nothing.

    Events that were published before name the person until the event log's retention ends.
    """
    account = _found(await session.get(Account, user_id, with_for_update=True), user_id)
    if account.deleted_at is None:
        await append(session, account.erase(datetime.now(UTC)))
        await store.end_sessions(session, user_id)


def _found(account: Account | None, user_id: UUID) -> Account:
    if account is None:
        raise UserNotFound(f"There is no user {user_id}.")
    return account


async def sweep_expired() -> int:
    async with database.transaction() as session:
        return await store.sweep(session, datetime.now(UTC))


sweeper = Worker("sweeper", sweep_expired, poll_seconds=600)
