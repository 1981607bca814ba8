"""Deletes what tables hold longer than anybody needs it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

import structlog
from sqlalchemy import ColumnElement, CursorResult, Table, delete, select, tuple_

from chassis.database import database
from chassis.jobs import Job, in_batches
from chassis.settings import settings
from chassis.tables import Base, DeadLetter, IdempotencyKey, LoggedEvent, SeenEvent, first_id_at

log = structlog.get_logger(__name__)

SCHEDULE = "@every 1h"
BATCH = 1_000
MOST_BATCHES = 100  # of each table, at a tick
# An event that is told again, or fetched from its producer's log, must still be found in the inbox,
# or among the letters that were decided about.
INBOX_OUTLASTS_LOG = timedelta(days=5)


async def prune() -> None:
    now = datetime.now(UTC)
    logged = now - timedelta(days=settings().event_log_days)
    old_event = LoggedEvent.id < first_id_at(logged), LoggedEvent.published_at < logged
    await empty(LoggedEvent, *old_event)
    remembered = logged - INBOX_OUTLASTS_LOG
    await empty(SeenEvent, SeenEvent.event_id < first_id_at(remembered))
    await empty(DeadLetter, DeadLetter.resolved_at < remembered)
    answered = now - timedelta(days=settings().idempotency_key_days)
    await empty(IdempotencyKey, IdempotencyKey.created_at < answered)


async def empty(kind: type[Base], *old: ColumnElement[bool]) -> int:
    """Deletes a bounded number of rows, and returns how many. Each batch is a transaction, so that
    no lock lasts.

    What another transaction holds is passed over: replicas never wait for each other.
    """
    deleted = await in_batches(lambda: _delete_some(kind, old), size=BATCH, most=MOST_BATCHES)
    if deleted:
        log.info("pruned", table=kind.__tablename__, rows=deleted)
    return deleted


async def _delete_some(kind: type[Base], old: Sequence[ColumnElement[bool]]) -> int:
    key = cast("Table", kind.__table__).primary_key.columns
    some = select(*key).where(*old).limit(BATCH).with_for_update(skip_locked=True)
    async with database.transaction() as session:
        result = await session.execute(delete(kind).where(tuple_(*key).in_(some)))
    assert isinstance(result, CursorResult)  # noqa: S101  # a DELETE has a row count
    return result.rowcount


pruning = Job("prune", SCHEDULE, prune)
