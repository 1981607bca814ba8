"""Named queries over accounts, sessions and refresh tokens."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.paging import PageQuery, fetch_page
from sqlalchemy import ColumnElement, Select, delete, or_, select, true, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from users.domain import MOST_SESSIONS, REPLAY_GRACE, Account, LoginSession, RefreshToken

_SWEPT_AT_ONCE = 500


async def add_account(session: AsyncSession, row: dict[str, Any]) -> Account | None:
    """None if another account has the e-mail."""
    opened = insert(Account).values(row).on_conflict_do_nothing(index_elements=[Account.email])
    return await session.scalar(opened.returning(Account))


async def account_of(session: AsyncSession, email: str) -> Account | None:
    return await session.scalar(select(Account).where(Account.email == email))


async def account(session: AsyncSession, user_id: UUID, *, lock: bool = False) -> Account | None:
    """None for a deleted account as well."""
    query = select(Account).where(Account.id == user_id, Account.deleted_at.is_(None))
    return await session.scalar(query.with_for_update() if lock else query)


async def accounts(
    session: AsyncSession, wanted: str | None, query: PageQuery
) -> tuple[Sequence[Account], int]:
    """Those whose e-mail or name contains `wanted`, the newest first, and how many there are."""
    found = Account.deleted_at.is_(None) & _contains(wanted)
    newest_first = select(Account).where(found).order_by(Account.id.desc())
    return await fetch_page(session, newest_first, query)


def _contains(wanted: str | None) -> ColumnElement[bool]:
    if wanted is None:
        return true()
    return or_(
        Account.email.icontains(wanted, autoescape=True),
        Account.name.icontains(wanted, autoescape=True),
    )


async def sessions_of(
    session: AsyncSession, user_id: UUID, now: datetime, query: PageQuery
) -> tuple[Sequence[LoginSession], int]:
    """Those that are alive, the newest first, and how many there are."""
    alive = (LoginSession.user_id == user_id) & (LoginSession.expires_at > now)
    newest_first = select(LoginSession).where(alive).order_by(LoginSession.id.desc())
    return await fetch_page(session, newest_first, query)


async def lock_session_of(session: AsyncSession, digest: bytes) -> LoginSession | None:
    """The session that this refresh token belongs to.

    Whoever exchanges or revokes locks the session first, so two of them never wait for each other.
    """
    query = select(LoginSession).join(RefreshToken).where(RefreshToken.digest == digest)
    return await session.scalar(query.with_for_update(of=LoginSession))


async def end_session(session: AsyncSession, user_id: UUID, session_id: UUID) -> bool:
    """False if the user has no such session."""
    own = (LoginSession.user_id == user_id) & (LoginSession.id == session_id)
    ended = await session.scalar(delete(LoginSession).where(own).returning(LoginSession.id))
    return ended is not None


async def end_sessions(session: AsyncSession, user_id: UUID) -> None:
    await session.execute(delete(LoginSession).where(LoginSession.user_id == user_id))


async def end_surplus_sessions(session: AsyncSession, user_id: UUID) -> None:
    """Keeps the newest; what somebody left open on fifty other devices is forgotten."""
    of_user = select(LoginSession.id).where(LoginSession.user_id == user_id)
    surplus = of_user.order_by(LoginSession.id.desc()).offset(MOST_SESSIONS)
    await session.execute(delete(LoginSession).where(LoginSession.id.in_(surplus)))


async def forget_seeds(session: AsyncSession, session_id: UUID, now: datetime) -> None:
    """Past the grace nobody may derive a successor any more, whoever reads the database."""
    seeds = (RefreshToken.session_id == session_id) & RefreshToken.successor_seed.is_not(None)
    old = seeds & (RefreshToken.spent_at < now - REPLAY_GRACE)
    await session.execute(update(RefreshToken).where(old).values(successor_seed=None))


async def sweep(session: AsyncSession, now: datetime) -> int:
    """Deletes a bounded number of expired tokens and sessions; returns how many."""
    tokens = select(RefreshToken.digest).where(RefreshToken.expires_at <= now)
    swept = await session.scalars(
        delete(RefreshToken)
        .where(RefreshToken.digest.in_(_some(tokens)))
        .returning(RefreshToken.session_id)
    )
    sessions = select(LoginSession.id).where(LoginSession.expires_at <= now)
    ended = await session.scalars(
        delete(LoginSession).where(LoginSession.id.in_(_some(sessions))).returning(LoginSession.id)
    )
    return len(swept.all()) + len(ended.all())


def _some(query: Select[Any]) -> Select[Any]:
    return query.limit(_SWEPT_AT_ONCE).with_for_update(skip_locked=True)
