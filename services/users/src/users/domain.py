"""Accounts, their sessions, and the chain of refresh tokens that keeps a session alive."""

import base64
import hashlib
import hmac
import secrets
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from chassis.identity import Role
from chassis.problems import Conflict
from chassis.tables import Base, new_id
from contracts.users import UserDeleted, UserLoggedIn, UserRegistered, UserUpdated
from email_validator import validate_email
from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

REFRESH_LIFETIME = timedelta(days=30)
REPLAY_GRACE = timedelta(seconds=10)
REGISTRATION_REPLAY = timedelta(minutes=1)
MOST_SESSIONS = 50


class StaleVersion(Conflict):
    pass


class RefreshTokenReused(Exception):  # noqa: N818  # what happened, for `refresh` to act on
    """A spent token came back when its owner had long used the next: one of the two is a thief."""


def normalise_email(text: str) -> str:
    """One spelling per mailbox; raises `ValueError` if this is no address that we can write to.

    Strictly the part before the @ is the receiver's own matter. In practice nobody distinguishes
    Ann from ann, and two accounts that differ in nothing else would be a trap.
    """
    address = validate_email(text, check_deliverability=False, allow_smtputf8=False)
    return str(address.ascii_email).lower()


def normalise_password(text: str) -> str:
    """The same password from keyboards that compose their characters differently."""
    return unicodedata.normalize("NFKC", text)


@dataclass(frozen=True)
class Profile:
    """What can be changed of an account, as a whole."""

    name: str
    role: Role = Role.CUSTOMER
    disabled: bool = False
    email_notifications: bool = True
    phone: str | None = None
    default_address: dict[str, Any] | None = None


class Account(Base):
    """A person. A deleted account keeps its row, for orders point to it, and nothing personal."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("(email IS NULL) = (deleted_at IS NOT NULL)", name="email_until_deleted"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str | None] = mapped_column(unique=True)
    password_hash: Mapped[str | None]
    name: Mapped[str]
    role: Mapped[str]
    disabled: Mapped[bool]
    email_notifications: Mapped[bool]
    phone: Mapped[str | None]
    default_address: Mapped[dict[str, Any] | None]
    version: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]

    @property
    def profile(self) -> Profile:
        return Profile(
            name=self.name,
            role=Role(self.role),
            disabled=self.disabled,
            email_notifications=self.email_notifications,
            phone=self.phone,
            default_address=self.default_address,
        )

    def registered(self) -> UserRegistered:
        return UserRegistered(**self._facts(self.created_at))

    def logged_in(self, now: datetime) -> UserLoggedIn:
        return UserLoggedIn(user_id=self.id, occurred_at=now)

    def is_repeated_by(self, name: str, now: datetime) -> bool:
        """True if a registration under this name may be the one that made this account."""
        return self.name == name and now - self.created_at < REGISTRATION_REPLAY

    def change(self, changes: Mapping[str, Any], version: int, now: datetime) -> UserUpdated | None:
        """Changes fields of the profile that had this version; raises `StaleVersion`.

        The same change again is no change: its first answer may have been lost on the way.
        """
        profile = replace(self.profile, **changes)
        if version == self.version - 1 and profile == self.profile:
            return None
        if version != self.version:
            raise StaleVersion(
                f"The profile is at version {self.version}, not {version}; read it again.",
                version=self.version,
            )
        self._take(profile, now)
        return UserUpdated(**self._facts(now))

    def erase(self, now: datetime) -> UserDeleted:
        """Forgets the person for good."""
        self._take(Profile(name="", role=Role(self.role), email_notifications=False), now)
        self.email = self.password_hash = None
        self.deleted_at = now
        return UserDeleted(user_id=self.id, occurred_at=now)

    def _take(self, profile: Profile, now: datetime) -> None:
        for field, value in asdict(profile).items():
            setattr(self, field, value)
        self.version += 1
        self.updated_at = now

    def _facts(self, now: datetime) -> dict[str, Any]:
        return {
            "user_id": self.id,
            "occurred_at": now,
            "user_version": self.version,
            "email": self.email,
            "name": self.name,
            "email_notifications": self.email_notifications,
        }


def new_account(email: str, password_hash: str, profile: Profile, now: datetime) -> dict[str, Any]:
    """The row of an account that has just been opened; `email` is normalised."""
    return {
        "id": new_id(),
        "email": email,
        "password_hash": password_hash,
        **asdict(profile),
        "version": 1,
        "created_at": now,
        "updated_at": now,
    }


class LoginSession(Base):
    """A device that is logged in. To revoke a session is to delete it, and its tokens with it."""

    __tablename__ = "sessions"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey(Account.id), index=True)
    user_agent: Mapped[str]
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)

    def prolong(self, now: datetime) -> None:
        self.last_used_at = now
        self.expires_at = now + REFRESH_LIFETIME


def new_session(user_id: UUID, user_agent: str, now: datetime) -> LoginSession:
    return LoginSession(
        id=new_id(),
        user_id=user_id,
        user_agent=user_agent,
        created_at=now,
        last_used_at=now,
        expires_at=now + REFRESH_LIFETIME,
    )


class RefreshToken(Base):
    """What is kept of a refresh token. The token itself has 256 random bits and needs no salt."""

    __tablename__ = "refresh_tokens"
    __table_args__ = (
        Index(
            "ix_refresh_tokens_seeds",
            "session_id",
            postgresql_where=text("successor_seed IS NOT NULL"),
        ),
    )

    digest: Mapped[bytes] = mapped_column(primary_key=True)
    session_id: Mapped[UUID] = mapped_column(
        ForeignKey(LoginSession.id, ondelete="CASCADE"), index=True
    )
    expires_at: Mapped[datetime] = mapped_column(index=True)
    spent_at: Mapped[datetime | None]
    successor_seed: Mapped[bytes | None]

    def spend(self, token: str, now: datetime) -> str:
        """Exchanges `token`, whose record this is, for its successor.

        A customer whose answer was lost sends the spent token again, and must not be logged out
        for it: within `REPLAY_GRACE` there is the same successor again. The price is that a
        thief who is as quick gets it too, and is found out one exchange later, when one of the
        two spends what the other has spent. Past the grace, raises `RefreshTokenReused`.

        The successor follows from the token and a seed. Only the seed is stored, so that neither
        the database nor an old token alone leads to a token that is worth something.
        """
        if self.spent_at is None:
            self.spent_at, self.successor_seed = now, secrets.token_bytes(32)
        if self.successor_seed is None or now - self.spent_at > REPLAY_GRACE:
            raise RefreshTokenReused
        successor = hmac.digest(token.encode(), self.successor_seed, "sha256")
        return base64.urlsafe_b64encode(successor).rstrip(b"=").decode()


def new_refresh_token() -> str:
    return secrets.token_urlsafe(32)


def digest_of(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def record_of(token: str, session_id: UUID, now: datetime) -> RefreshToken:
    return RefreshToken(
        digest=digest_of(token), session_id=session_id, expires_at=now + REFRESH_LIFETIME
    )
