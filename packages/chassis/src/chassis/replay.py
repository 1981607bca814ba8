"""Has a service take in events again: what they told is deleted, and the watermarks go back."""

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, TypeAlias, cast

from sqlalchemy import Column, ColumnElement, Table, delete, func, select, text, true
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chassis.database import database
from chassis.event_history import cursor_since
from chassis.settings import settings
from chassis.tables import Base, SeenEvent, Watermark, first_id_at

ReadModels: TypeAlias = Mapping[type[Base], Callable[[datetime], ColumnElement[bool]]]
"""Tables that hold nothing but what events have told, and for a time the condition for those of
their rows that no event before it has a part in."""

Rows: TypeAlias = Mapping[type[Base], ColumnElement[bool]]

NO_READ_MODELS: ReadModels = MappingProxyType({})

_BATCH = 10_000
# Logs are pruned meanwhile.
_MARGIN = timedelta(hours=1)
# An event is logged at a time of the database, with an id of a time of its producer.
_SKEW = timedelta(minutes=1)

# An event enters the inbox before it takes effect.
_KEEP_CONSUMERS_OUT = text("LOCK TABLE inbox IN SHARE ROW EXCLUSIVE MODE")


async def wind_back(
    marks: Collection[str], read_models: ReadModels, since: datetime | None
) -> None:
    """Has the events since then fetched again, at most those that all logs still hold.

    Older rows of the read models stay: nothing could tell them again. Should this be interrupted,
    all is fetched that it has deleted.
    """
    start = _start(since)
    seen: Rows = {SeenEvent: SeenEvent.event_id >= first_id_at(start)}
    told = {model: stems_since(start) for model, stems_since in read_models.items()}
    await _delete_in_batches(seen)
    await _begin_again(marks, start, seen)
    if told:
        await _delete_in_batches(told)
        await _begin_again(marks, start, {**seen, **told})


def _start(since: datetime | None) -> datetime:
    logged = datetime.now(UTC) - timedelta(days=settings().event_log_days) + _MARGIN
    return max(since, logged) if since else logged


async def _begin_again(marks: Collection[str], start: datetime, rows: Rows) -> None:
    """Deletes what was taken in since the batches; waits for consumers at work, and others wait.

    So no event can have an effect and not be in the inbox.
    """
    async with database.transaction() as session:
        await session.execute(_KEEP_CONSUMERS_OUT)
        for model, condition in rows.items():
            await session.execute(delete(model).where(condition))
        await _move(session, marks, cursor_since(start - _SKEW))


async def _move(session: AsyncSession, marks: Collection[str], cursor: str) -> None:
    upsert = insert(Watermark)
    moved = {"cursor": upsert.excluded.cursor, "moved_at": func.now()}
    await session.execute(
        upsert.on_conflict_do_update(index_elements=["producer"], set_=moved),
        [{"producer": mark, "cursor": cursor} for mark in marks],
    )


async def _delete_in_batches(rows: Rows) -> None:
    """All but what others hold locked; each batch is a transaction, so that nobody waits long."""
    for model, condition in rows.items():
        [key] = cast("Table", model.__table__).primary_key.columns
        last = None
        while (last := await _delete_some(model, key, condition, last)) is not None:
            pass


async def _delete_some(
    model: type[Base], key: Column[Any], condition: ColumnElement[bool], behind: object
) -> object:
    """The greatest key that was deleted; None at the end."""
    beyond = true() if behind is None else key > behind
    some = select(key).where(condition, beyond).order_by(key).limit(_BATCH)
    gone = delete(model).where(key.in_(some.with_for_update(skip_locked=True))).returning(key)
    async with database.transaction() as session:
        return max(await session.scalars(gone), default=None)
