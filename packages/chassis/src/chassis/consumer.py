"""Consumes bulk deliveries: each event takes effect once, a batch in one transaction."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias
from uuid import UUID

import structlog
from contracts import ALL_EVENTS, Event
from fastapi import APIRouter, Depends, Request
from opentelemetry.trace import SpanKind
from prometheus_client import Counter
from pydantic import ValidationError
from sqlalchemy import Uuid, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncSession

from chassis.cloud_event import CloudEvent
from chassis.database import database
from chassis.dead_letters import record_dead_letter
from chassis.delivery import Entry, entries_of
from chassis.event_log import traces_by_key
from chassis.failpoints import failpoint
from chassis.identity import require_app_token
from chassis.tables import SeenEvent
from chassis.telemetry import context_of, tracer
from chassis.transience import is_transient

log = structlog.get_logger(__name__)

Handler: TypeAlias = Callable[[AsyncSession, Sequence[Any]], Awaitable[None]]
Subscriptions: TypeAlias = Mapping[type[Event], Handler]

CONSUMED = Counter("events_consumed_total", "Events by what became of them.", ["topic", "outcome"])


_EVENTS = {event.topic: event for event in ALL_EVENTS}


class Status(StrEnum):
    """Dapr understands these words in upper case only, and retries anything else.

    There is no DROP: it would send the event to the dead-letter topic, but without a reason.
    """

    SUCCESS = "SUCCESS"
    RETRY = "RETRY"


class UnknownEventType(Exception):  # noqa: N818  # named for the broken rule
    """The service has no handler for the event's type."""


@dataclass(frozen=True)
class Received:
    entry_id: str
    raw: Any
    id: UUID
    event: Event
    trace_parent: str | None


Outcomes: TypeAlias = dict[str, Status]


def event_routes(subscriptions: Subscriptions) -> APIRouter:
    """The one route that all subscribed events come to, where only the own sidecar may post."""
    router = APIRouter(include_in_schema=False, dependencies=[Depends(require_app_token)])

    @router.post("/events")
    async def receive(request: Request) -> dict[str, Any]:
        outcomes = await take_in(subscriptions, entries_of(await request.body()))
        return {"statuses": [{"entryId": i, "status": s} for i, s in outcomes.items()]}

    return router


async def take_in(subscriptions: Subscriptions, entries: Sequence[Entry]) -> Outcomes:
    """Has events of all types take effect; the outcome of every entry by its id."""
    outcomes: Outcomes = {}
    for topic, alike in _by_type(entries).items():
        event = _EVENTS.get(topic)
        if event is not None and event in subscriptions:
            outcomes |= await consume(event, subscriptions[event], alike)
        else:
            outcomes |= await _pass_over(topic, alike)
    return outcomes


def _by_type(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    groups: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        match entry.event:
            case {"type": str(topic)}:
                groups[topic].append(entry)
            case _:
                groups["unknown"].append(entry)
    return groups


async def _pass_over(topic: str, entries: Sequence[Entry]) -> Outcomes:
    """What is for others is done here: a broker may route more than was asked for.

    A type that no contract knows is poison.
    """
    if topic in _EVENTS:
        return {entry.entryId: Status.SUCCESS for entry in entries}
    reason = UnknownEventType(topic)
    return {entry.entryId: await _bury(topic, entry.event, reason) for entry in entries}


async def consume(event: type[Event], handler: Handler, entries: Sequence[Entry]) -> Outcomes:
    """Handles the events of one type in a delivery; the outcome of every entry by its id."""
    outcomes: Outcomes = {}
    batch: list[Received] = []
    for entry in entries:
        try:
            batch.append(_parse(event, entry))
        except ValidationError as error:
            outcomes[entry.entryId] = await _bury(event.topic, entry.event, error)
    return outcomes | await _handle(event.topic, handler, batch)


def _parse(event: type[Event], entry: Entry) -> Received:
    envelope = CloudEvent.model_validate(entry.event)
    fact = event.model_validate(envelope.data)
    return Received(entry.entryId, entry.event, envelope.id, fact, envelope.producertrace)


async def _handle(topic: str, handler: Handler, batch: Sequence[Received]) -> Outcomes:
    """One transaction for the batch; if it is poisoned, halves, until the poison stands alone."""
    if not batch:
        return {}
    try:
        await _take_effect(topic, handler, batch)
    except Exception as error:  # noqa: BLE001  # whatever a handler raises decides an outcome
        if is_transient(error):
            return _postpone(topic, batch, error)
        if len(batch) == 1:
            return {batch[0].entry_id: await _bury(topic, batch[0].raw, error)}
        half = len(batch) // 2
        first = await _handle(topic, handler, batch[:half])
        return first | await _handle(topic, handler, batch[half:])
    return {received.entry_id: Status.SUCCESS for received in batch}


async def _take_effect(topic: str, handler: Handler, batch: Sequence[Received]) -> None:
    async with database.transaction() as session:
        fresh = await _handle_unseen(session, topic, handler, batch)
        failpoint(f"{topic}.before-commit")
    failpoint(f"{topic}.after-commit")
    CONSUMED.labels(topic, "done").inc(fresh)
    CONSUMED.labels(topic, "duplicate").inc(len(batch) - fresh)


async def _handle_unseen(
    session: AsyncSession, topic: str, handler: Handler, batch: Sequence[Received]
) -> int:
    """Hands over what is not in the inbox yet, and enters it there; returns how many."""
    traces = {r.event.key: r.trace_parent for r in batch if r.trace_parent}
    token = traces_by_key.set(traces)
    try:
        fresh = await _unseen(session, batch)
        with _spans(topic, fresh):
            if fresh:
                await handler(session, [received.event for received in fresh])
    finally:
        traces_by_key.reset(token)
    return len(fresh)


async def handle_alone(session: AsyncSession, subscriptions: Subscriptions, raw: Any) -> None:
    """What `consume` does with one event, in the caller's transaction; raises what refuses it."""
    [(topic, [entry])] = _by_type([Entry(entryId="", event=raw)]).items()
    event = _EVENTS.get(topic)
    if event is None:
        raise UnknownEventType(topic)
    if event in subscriptions:
        await _handle_unseen(session, topic, subscriptions[event], [_parse(event, entry)])


# One statement whatever the size of the batch, so that it is compiled once.
_ENTER = (
    insert(SeenEvent)
    .from_select(["event_id"], select(func.unnest(bindparam("ids", type_=ARRAY(Uuid)))))
    .on_conflict_do_nothing()
    .returning(SeenEvent.event_id)
)


async def _unseen(session: AsyncSession, batch: Sequence[Received]) -> list[Received]:
    """Enters the batch in the inbox; returns what was not there yet, each event once.

    Ids are entered in order, so that two deliveries of the same events cannot deadlock.
    """
    by_id = {received.id: received for received in batch}
    connection = await session.connection()  # given parameters, the session would rewrite it
    new = set(await connection.scalars(_ENTER, {"ids": sorted(by_id)}))
    return [received for event_id, received in by_id.items() if event_id in new]


def _spans(topic: str, batch: Sequence[Received]) -> ExitStack:
    """A span for each event in its own producer's trace, all covering the batch's work."""
    stack = ExitStack()
    for received in batch:
        span = tracer.start_span(
            f"consume {topic}", context_of(received.trace_parent), SpanKind.CONSUMER
        )
        span.set_attribute("messaging.batch.message_count", len(batch))
        stack.callback(span.end)
    return stack


def _postpone(topic: str, batch: Sequence[Received], error: Exception) -> Outcomes:
    log.warning("events_postponed", topic=topic, events=len(batch), error=repr(error))
    CONSUMED.labels(topic, "retry").inc(len(batch))
    return {received.entry_id: Status.RETRY for received in batch}


async def _bury(topic: str, raw: Any, error: Exception) -> Status:
    """Records an event that can never take effect, with the reason, and tells Dapr it is done."""
    log.error("event_refused", topic=topic, error=repr(error))
    try:
        await record_dead_letter(topic, raw, reason=repr(error))
    except Exception as trouble:  # noqa: BLE001  # without a record the event must come again
        log.warning("dead_letter_not_recorded", topic=topic, error=repr(trouble))
        return Status.RETRY
    # A made-up type must not become a time series, nor break the page of metrics.
    CONSUMED.labels(topic if topic in _EVENTS else "unknown", "refused").inc()
    return Status.SUCCESS
