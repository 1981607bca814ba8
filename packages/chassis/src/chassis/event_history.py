"""What this service has published, for its consumers to compare with what reached them.

A page goes up to the snapshot's horizon: a transaction older than all that still run can add no
more rows, so nothing can ever appear before the cursor. Sequences alone commit out of order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Row,
    Select,
    func,
    literal_column,
    select,
    text,
    true,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncSession

from chassis.cloud_event import envelop
from chassis.database import Session
from chassis.identity import require_app_token
from chassis.problems import Problem
from chassis.tables import LoggedEvent

PAGE = 1000
# A sidecar takes bodies of 4 MiB, and an order of fifty lines is 50 kB.
FETCHED_AT_ONCE = 50
# Younger events may still be on their way through the broker.
_ON_THEIR_WAY = timedelta(seconds=10)
_SINCE = "since:"


class LoggedId(BaseModel):
    id: UUID
    topic: str


class HistoryPage(BaseModel):
    """`cursor` goes into the next request; `reached` is when the last of the events was logged."""

    events: list[LoggedId]
    cursor: str
    reached: datetime | None
    more: bool


class Wanted(BaseModel):
    ids: list[UUID] = Field(max_length=FETCHED_AT_ONCE)


class BadCursor(Problem):
    pass


def cursor_since(time: datetime) -> str:
    """A cursor before the first event that was logged at this time or later."""
    return f"{_SINCE}{time.isoformat()}"


@dataclass(frozen=True)
class Position:
    """A place in the log of one line of history of one database cluster.

    Transaction ids of another cluster, or of a copy that was restored to an earlier time, say
    nothing about this one: a cursor from there starts anew, and ids that were compared already
    are compared again.
    """

    epoch: str
    transaction_id: int = -1
    sequence: int = -1

    @classmethod
    def parse(cls, cursor: str, epoch: str) -> Self:
        if not cursor:
            return cls(epoch)
        try:
            written_in, transaction_id, sequence = cursor.split("/")
            there = cls(epoch, int(transaction_id), int(sequence))
        except ValueError as error:
            raise BadCursor(f"{cursor!r} is no cursor.") from error
        return there if written_in == epoch else cls(epoch)

    def __str__(self) -> str:
        return f"{self.epoch}/{self.transaction_id}/{self.sequence}"


def history_routes(name: str) -> APIRouter:
    """Where only the sidecar may ask, for callers that its access control lets through."""
    router = APIRouter(
        prefix=f"/internal/{name}/events",
        include_in_schema=False,
        dependencies=[Depends(require_app_token)],
    )

    @router.get("")
    async def ids(
        session: Session, topic: Annotated[list[str], Query()], after: str = ""
    ) -> HistoryPage:
        """The ids of the topics' events behind the cursor, oldest first."""
        return await _page(session, after, frozenset(topic))

    @router.post("")
    async def events(session: Session, wanted: Wanted) -> list[dict[str, Any]]:
        """The whole events, as they were published."""
        found = await session.scalars(
            select(LoggedEvent)
            .where(LoggedEvent.id.in_(wanted.ids))
            .order_by(LoggedEvent.transaction_id, LoggedEvent.sequence)
        )
        return [envelop(event) for event in found]

    return router


async def _page(session: AsyncSession, after: str, topics: frozenset[str]) -> HistoryPage:
    epoch = str(await session.scalar(_EPOCH))
    start, age = Position(epoch), true()
    if after.startswith(_SINCE):
        age = LoggedEvent.created_at >= _time(after)
    else:
        start = Position.parse(after, epoch)
    rows = (await session.execute(_rows(start, age))).all()
    # Cut, not filtered: behind a young row may lie older ones, but nothing may be passed over.
    settled = list(takewhile(lambda row: row.settled, rows))
    return HistoryPage(
        events=[LoggedId(id=row.id, topic=row.topic) for row in settled if row.topic in topics],
        cursor=_cursor_behind(settled, start, after),
        reached=settled[-1].created_at if settled else None,
        more=len(settled) == PAGE,
    )


def _time(cursor: str) -> datetime:
    try:
        return datetime.fromisoformat(cursor.removeprefix(_SINCE))
    except ValueError as error:
        raise BadCursor(f"{cursor!r} is no cursor.") from error


def _cursor_behind(settled: Sequence[Row[*tuple[Any, ...]]], start: Position, after: str) -> str:
    if not settled:
        return after
    return str(Position(start.epoch, settled[-1].transaction_id, settled[-1].sequence))


def _rows(start: Position, age: ColumnElement[bool]) -> Select[UUID, str, int, int, datetime, bool]:
    place = tuple_(LoggedEvent.transaction_id, LoggedEvent.sequence)
    return (
        select(
            LoggedEvent.id,
            LoggedEvent.topic,
            LoggedEvent.transaction_id,
            LoggedEvent.sequence,
            LoggedEvent.created_at,
            (LoggedEvent.created_at < func.now() - _ON_THEIR_WAY).label("settled"),
        )
        .where(place > tuple_(start.transaction_id, start.sequence), age, _IS_FINAL)
        .order_by(LoggedEvent.transaction_id, LoggedEvent.sequence)
        .limit(PAGE)
    )


_IS_FINAL = LoggedEvent.transaction_id < literal_column(
    "pg_snapshot_xmin(pg_current_snapshot())::text::bigint", BigInteger
)

# A promotion, or a restore to an earlier time, begins a new timeline.
_EPOCH = text(
    "SELECT system_identifier || '.' || timeline_id"
    " FROM pg_control_system(), pg_control_checkpoint()"
)
