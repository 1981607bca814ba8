"""The event log: events are committed with the change they tell of, then relayed to the broker."""

from collections.abc import Collection, Mapping, Sequence
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from contracts import Event
from prometheus_client import Counter
from sqlalchemy import func, insert, select, update
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncSession

from chassis.cloud_event import envelop
from chassis.database import database, on_commit
from chassis.failpoints import failpoint
from chassis.sidecar import SidecarUnavailable, sidecar
from chassis.tables import LoggedEvent, new_id
from chassis.telemetry import current_trace_parent
from chassis.worker import Worker

# The largest events, orders of fifty lines, are 50 kB; a sidecar takes 4 MiB at a time.
BATCH = 50
PUBLISHED = Counter("events_published_total", "Events handed to the sidecar.", ["topic"])

# While a batch is consumed: the trace of each event in it, by key, so that what a handler appends
# for one order continues that order's trace and not its neighbour's.
traces_by_key: ContextVar[Mapping[str, str]] = ContextVar(
    "traces_by_key",
    default=MappingProxyType({}),  # a proxy cannot be changed
)


async def append(session: AsyncSession, *events: Event) -> None:
    """Writes events in the session's transaction; they are published after it has committed."""
    here = current_trace_parent()
    traces = traces_by_key.get()
    await _write(
        session,
        [
            {
                "topic": event.topic,
                "key": event.key,
                "payload": event.model_dump(mode="json"),
                "trace_parent": traces.get(event.key, here),
            }
            for event in events
        ],
    )


async def repeat(
    session: AsyncSession, events: Collection[type[Event]], keys: Collection[str]
) -> None:
    """Tells the last event of each of these types and keys again, under a new id."""
    topics = [event.topic for event in events]
    told = await session.scalars(
        select(LoggedEvent)
        .where(LoggedEvent.key.in_(keys), LoggedEvent.topic.in_(topics))
        .ext(distinct_on(LoggedEvent.key, LoggedEvent.topic))
        .order_by(LoggedEvent.key, LoggedEvent.topic, LoggedEvent.sequence.desc())
    )
    await _write(
        session,
        [
            {
                "topic": event.topic,
                "key": event.key,
                "payload": event.payload,
                "trace_parent": event.trace_parent,
            }
            for event in sorted(told, key=lambda event: event.sequence)
        ],
    )


async def _write(session: AsyncSession, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        await session.execute(insert(LoggedEvent), [{"id": new_id(), **row} for row in rows])
        on_commit(session, relay.wake)


async def publish_pending() -> int:
    """Publishes the oldest unpublished events; returns how many.

    The rows stay locked while the sidecar is called, so that replicas share the work; a crash
    before the commit publishes them again under the same ids, which every inbox absorbs.
    """
    async with database.transaction() as session:
        rows = (await session.scalars(_OLDEST_UNPUBLISHED)).all()
        failpoint("relay.before-publish")
        refused = await sidecar.publish([envelop(row) for row in rows]) if rows else set[str]()
        failpoint("relay.before-mark")
        taken = [row for row in rows if str(row.id) not in refused]
        await _mark_published(session, taken)
    for row in taken:
        PUBLISHED.labels(row.topic).inc()
    if refused:
        raise SidecarUnavailable(f"The broker refused {len(refused)} events.")
    return len(rows)


async def _mark_published(session: AsyncSession, rows: Sequence[LoggedEvent]) -> None:
    ids = [row.id for row in rows]
    now = {"published_at": func.clock_timestamp()}
    await session.execute(update(LoggedEvent).where(LoggedEvent.id.in_(ids)).values(now))


relay = Worker("relay", publish_pending, poll_seconds=1.0, drains=True)

_OLDEST_UNPUBLISHED = (
    select(LoggedEvent)
    .where(LoggedEvent.published_at.is_(None))
    .order_by(LoggedEvent.sequence)
    .limit(BATCH)
    .with_for_update(skip_locked=True)
)
