"""The event log: events are committed with the change they tell of, then relayed to the broker."""

import asyncio
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from itertools import groupby
from types import MappingProxyType

import structlog
from contracts import Event
from prometheus_client import Counter
from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from chassis.cloud_event import envelop
from chassis.database import database, on_commit
from chassis.sidecar import SidecarUnavailable, sidecar
from chassis.tables import LoggedEvent, new_id
from chassis.telemetry import current_trace_parent
from chassis.worker import Worker

log = structlog.get_logger(__name__)

BATCH = 200
PUBLISHED = Counter("events_published_total", "Events handed to the sidecar.", ["topic"])

# While a batch is consumed: the trace of each event in it, by key, so that what a handler appends
# for one order continues that order's trace and not its neighbour's.
traces_by_key: ContextVar[Mapping[str, str]] = ContextVar(
    "traces_by_key",
    default=MappingProxyType({}),  # a proxy cannot be changed
)


async def append(session: AsyncSession, *events: Event) -> None:
    """Writes events in the session's transaction; they are published after it has committed."""
    if not events:
        return
    here = current_trace_parent()
    traces = traces_by_key.get()
    await session.execute(
        insert(LoggedEvent),
        [
            {
                "id": new_id(),
                "topic": event.topic,
                "key": event.key,
                "payload": event.model_dump(mode="json"),
                "trace_parent": traces.get(event.key, here),
            }
            for event in events
        ],
    )
    on_commit(session, relay.wake)


async def publish_pending() -> int:
    """Publishes the oldest unpublished events; returns how many.

    The rows stay locked while the sidecar is called, so that replicas share the work; a crash
    before the commit publishes them again under the same ids, which every inbox absorbs.
    """
    async with database.transaction() as session:
        rows = (await session.scalars(_OLDEST_UNPUBLISHED)).all()
        taken = [row.id for group in await _publish_by_topic(rows) for row in group]
        if taken:
            await session.execute(
                update(LoggedEvent)
                .where(LoggedEvent.id.in_(taken))
                .values(published_at=func.clock_timestamp())
            )
    if len(taken) < len(rows):
        raise SidecarUnavailable(f"{len(rows) - len(taken)} events wait for the broker.")
    return len(rows)


relay = Worker("relay", publish_pending, poll_seconds=1.0)

_OLDEST_UNPUBLISHED = (
    select(LoggedEvent)
    .where(LoggedEvent.published_at.is_(None))
    .order_by(LoggedEvent.sequence)
    .limit(BATCH)
    .with_for_update(skip_locked=True)
)


async def _publish_by_topic(rows: Sequence[LoggedEvent]) -> list[list[LoggedEvent]]:
    by_topic = groupby(sorted(rows, key=lambda row: row.topic), key=lambda row: row.topic)
    return await asyncio.gather(*(_publish(topic, list(group)) for topic, group in by_topic))


async def _publish(topic: str, rows: list[LoggedEvent]) -> list[LoggedEvent]:
    """Returns the rows that the sidecar took; one topic's trouble does not hold up another's."""
    try:
        refused = await sidecar.publish(topic, [envelop(row) for row in rows])
    except SidecarUnavailable as error:
        log.warning("publish_failed", topic=topic, events=len(rows), error=error.detail)
        return []
    taken = [row for row in rows if str(row.id) not in refused]
    PUBLISHED.labels(topic).inc(len(taken))
    return taken
