"""The declarative base of all services, and the tables that the chassis itself keeps in each."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    DateTime,
    Identity,
    Index,
    MetaData,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from uuid_utils.compat import uuid7 as new_id

__all__ = [
    "Base",
    "DeadLetter",
    "IdempotencyKey",
    "LoggedEvent",
    "SeenEvent",
    "Watermark",
    "first_id_at",
    "new_id",
]

_UUID7 = 0x7000_8000_0000_0000_0000  # version and variant, and no random bits


def first_id_at(time: datetime) -> UUID:
    """No id that `new_id` makes at this time or later is smaller."""
    return UUID(int=(int(time.timestamp() * 1000) << 80) | _UUID7)


class Base(DeclarativeBase):
    """Constraint names are fixed, so that a migration can name what it changes."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012  # SQLAlchemy reads a plain class attribute
        str: Text,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB(none_as_null=True),
        list[dict[str, Any]]: JSONB(none_as_null=True),
    }


class LoggedEvent(Base):
    """The event log: an outbox whose rows are kept after they were published.

    Sequences commit out of order; `transaction_id` tells which rows can have no younger ones
    before them (`chassis.event_history`).
    """

    __tablename__ = "event_log"
    __table_args__ = (
        Index(
            "ix_event_log_unpublished", "sequence", postgresql_where=text("published_at IS NULL")
        ),
        Index("ix_event_log_transaction_id_sequence", "transaction_id", "sequence"),
        Index("ix_event_log_key_sequence", "key", "sequence"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger, Identity(always=True), unique=True)
    transaction_id: Mapped[int] = mapped_column(
        BigInteger, server_default=text("(pg_current_xact_id())::text::bigint")
    )
    topic: Mapped[str]
    key: Mapped[str]
    payload: Mapped[dict[str, Any]]
    trace_parent: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    published_at: Mapped[datetime | None]


class SeenEvent(Base):
    """The inbox: ids of events whose effect is in this database."""

    __tablename__ = "inbox"

    event_id: Mapped[UUID] = mapped_column(primary_key=True)
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DeadLetter(Base):
    """An event that this service gave up on, and why. `event_id` is absent if it had none.

    It is open until somebody decides: `resolution` says what, `resolved_by` who.
    """

    __tablename__ = "dead_letters"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    event_id: Mapped[UUID | None]
    topic: Mapped[str]
    payload: Mapped[str]
    reason: Mapped[str]
    attempts: Mapped[int] = mapped_column(server_default="1")
    trace_parent: Mapped[str | None]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
    resolution: Mapped[str | None]
    resolved_at: Mapped[datetime | None]
    resolved_by: Mapped[str | None]


class Watermark(Base):
    """How far this service has compared a producer's event log with its own inbox.

    `producer` is followed by the types that were compared, for others were passed over.
    """

    __tablename__ = "watermarks"

    producer: Mapped[str] = mapped_column(primary_key=True)
    cursor: Mapped[str]
    moved_at: Mapped[datetime] = mapped_column(server_default=func.now())


class IdempotencyKey(Base):
    """A request that took effect, with the answer it got."""

    __tablename__ = "idempotency_keys"

    caller: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    status: Mapped[int | None]
    answer: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
