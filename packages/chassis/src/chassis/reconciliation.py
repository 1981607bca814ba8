"""Anti-entropy: what the producers have logged and the inbox lacks is fetched and takes effect.

The broker is for latency; the event log is for truth. A sidecar reports some publishes that the
broker refused as done, a queue may lose its binding, a disk its messages: here they come back.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar
from urllib.parse import urlencode
from uuid import UUID

import structlog
from contracts import Event
from fastapi import APIRouter, Depends
from prometheus_client import Counter, Gauge
from pydantic import AwareDatetime, BaseModel, TypeAdapter
from sqlalchemy import Uuid, and_, any_, bindparam, except_, func, not_, select, update
from sqlalchemy.dialects.postgresql import ARRAY, insert

from chassis.consumer import Status, Subscriptions, UnknownEventType, take_in
from chassis.database import database
from chassis.delivery import Entry
from chassis.desk import IS_OPEN, Resolution
from chassis.event_history import FETCHED_AT_ONCE, HistoryPage
from chassis.identity import require_app_token
from chassis.jobs import Job
from chassis.replay import ReadModels, wind_back
from chassis.sidecar import SidecarUnavailable, sidecar
from chassis.tables import DeadLetter, SeenEvent, Watermark
from chassis.transience import is_transient

T = TypeVar("T")
log = structlog.get_logger(__name__)

REPAIRS = Counter(
    "reconciliation_repairs_total",
    "Events fetched from their producer's log, for they had not arrived.",
    ["producer", "topic"],
)
COMPARED_AT = Gauge(
    "reconciliation_compared_timestamp_seconds",
    "When a producer's log was last compared to its end.",
    ["producer"],
)
SCHEDULE = "@every 15s"
_PAGES_A_TICK = 20


class Progress(BaseModel):
    """Of one page of a producer's log: `reached` is when its last event was logged."""

    producer: str
    compared: int
    repaired: int
    reached: datetime | None
    more: bool


class Replay(BaseModel):
    """Everything that all logs hold if `since` is absent."""

    since: AwareDatetime | None = None


class Reconciliation:
    """Compares the logs of all producers that a service subscribes to with its inbox."""

    def __init__(self, name: str, subscriptions: Subscriptions, read_models: ReadModels) -> None:
        self._name = name
        self._subscriptions = subscriptions
        self._read_models = read_models
        self._topics = topics_by_producer(subscriptions)
        self._marks = _marks(self._topics)
        self.job = Job("reconcile", SCHEDULE, self.tick)

    async def tick(self) -> None:
        """A bounded number of pages of each producer; trouble with one does not stop the rest."""
        await _all_of(self._catch_up(producer) for producer in self._topics)

    async def _catch_up(self, producer: str) -> None:
        try:
            for _ in range(_PAGES_A_TICK):
                if not (await self._step(producer)).more:
                    COMPARED_AT.labels(producer).set_to_current_time()
                    return
        except Exception as trouble:
            if not is_transient(trouble):
                raise
            log.warning("not_reconciled", producer=producer, error=str(trouble))

    async def _step(self, producer: str) -> Progress:
        """One page; the watermark moves when all of it has taken effect, or lies at the desk."""
        mark = await _watermark(self._marks[producer])
        page = await self._page(producer, mark.cursor)
        missing = await _missing([event.id for event in page.events])
        for start in range(0, len(missing), FETCHED_AT_ONCE):
            await self._repair(producer, missing[start : start + FETCHED_AT_ONCE])
        await _move(mark, page.cursor)
        return Progress(
            producer=producer,
            compared=len(page.events),
            repaired=len(missing),
            reached=page.reached,
            more=page.more,
        )

    async def _page(self, producer: str, cursor: str) -> HistoryPage:
        query = urlencode({"after": cursor, "topic": self._topics[producer]}, doseq=True)
        reply = await sidecar.invoke(producer, f"internal/{producer}/events?{query}")
        if not reply.ok:
            raise SidecarUnavailable(f"{producer} did not tell its history: {reply.status}.")
        return HistoryPage.model_validate_json(reply.body)

    async def _repair(self, producer: str, ids: Sequence[UUID]) -> None:
        events = await _fetch(producer, ids)
        entries = [Entry(entryId=str(event["id"]), event=event) for event in events]
        outcomes = await take_in(self._subscriptions, entries)
        await _close_letters(
            [UUID(entry) for entry, status in outcomes.items() if status is Status.SUCCESS]
        )
        if Status.RETRY in outcomes.values():
            raise SidecarUnavailable("The events cannot take effect now.")
        for event in events:
            REPAIRS.labels(producer, event["type"]).inc()
        log.warning("events_repaired", producer=producer, events=len(events), first=str(ids[0]))

    def routes(self) -> APIRouter:
        """For operators: to have events take effect again, and to watch it."""
        router = APIRouter(
            prefix=f"/internal/{self._name}",
            include_in_schema=False,
            dependencies=[Depends(require_app_token)],
        )

        @router.post("/replay")
        async def replay(request: Replay) -> None:
            """Winds the watermarks back and forgets what was seen since; the rest follows."""
            await wind_back(self._marks.values(), self._read_models, request.since)

        @router.post("/reconcile")
        async def reconcile() -> list[Progress]:
            """Compares one page of each producer; the caller repeats it while there is more."""
            return await _all_of(self._step(producer) for producer in self._topics)

        return router


async def _all_of(steps: Iterable[Awaitable[T]]) -> list[T]:
    """Ends when all of them have ended; raises the first of their errors."""
    done: list[T] = []
    for outcome in await asyncio.gather(*steps, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
        done.append(outcome)
    return done


def topics_by_producer(subscriptions: Iterable[type[Event]]) -> Mapping[str, Sequence[str]]:
    topics: defaultdict[str, list[str]] = defaultdict(list)
    for event in subscriptions:
        topics[event.producer()].append(event.topic)
    return topics


def _marks(topics: Mapping[str, Sequence[str]]) -> Mapping[str, str]:
    """By producer, a name that is another one when the service subscribes to another type.

    What was passed over until then lies behind the watermark: the new one begins at the start. A
    replica of the former release goes on with its own.
    """
    return {producer: " ".join([producer, *sorted(types)]) for producer, types in topics.items()}


async def _watermark(name: str) -> Watermark:
    async with database.transaction() as session:
        mark = await session.get(Watermark, name)
        if mark is None:
            new = insert(Watermark).values(producer=name, cursor="").on_conflict_do_nothing()
            await session.execute(new)
            mark = await session.get_one(Watermark, name)
        return mark


async def _move(mark: Watermark, to: str) -> None:
    """Unless somebody else has moved it meanwhile, be it to where it was."""
    if to == mark.cursor:
        return
    unchanged = Watermark.producer == mark.producer, Watermark.moved_at == mark.moved_at
    async with database.transaction() as session:
        await session.execute(
            update(Watermark).where(*unchanged).values(cursor=to, moved_at=func.now())
        )


_IDS = bindparam("ids", type_=ARRAY(Uuid))
# A letter of a former release, to which the event's type was new. It is not new to this one.
_WAS_UNKNOWN = and_(IS_OPEN, DeadLetter.reason.startswith(f"{UnknownEventType.__name__}("))
# What was replayed is in the inbox, unless that was to be forgotten.
_LIES_AT_THE_DESK = and_(
    DeadLetter.event_id == any_(_IDS),
    DeadLetter.resolution.is_distinct_from(Resolution.REPLAYED),
    not_(_WAS_UNKNOWN),
)
_MISSING = except_(
    select(func.unnest(_IDS)),
    select(SeenEvent.event_id).where(SeenEvent.event_id == any_(_IDS)),
    select(DeadLetter.event_id).where(_LIES_AT_THE_DESK),
)


async def _missing(ids: Sequence[UUID]) -> list[UUID]:
    """Those that neither took effect here nor lie at the dead-letter desk, in their order."""
    if not ids:
        return []
    async with database.transaction() as session:
        lacking = set(await session.scalars(_MISSING, {"ids": ids}))
    return [event_id for event_id in ids if event_id in lacking]


async def _close_letters(ids: Sequence[UUID]) -> None:
    """Of those that have taken effect by now, or lie there for another reason."""
    decision = {
        "resolution": Resolution.REPLAYED,
        "resolved_at": func.now(),
        "resolved_by": "reconciliation",
    }
    theirs = DeadLetter.event_id.in_(ids), _WAS_UNKNOWN
    async with database.transaction() as session:
        await session.execute(update(DeadLetter).where(*theirs).values(decision))


_EVENTS = TypeAdapter(list[dict[str, object]])


async def _fetch(producer: str, ids: Sequence[UUID]) -> list[dict[str, object]]:
    body = b'{"ids":%s}' % TypeAdapter(list[UUID]).dump_json(list(ids))
    reply = await sidecar.invoke(producer, f"internal/{producer}/events", method="POST", body=body)
    if not reply.ok:
        raise SidecarUnavailable(f"{producer} did not hand out its events: {reply.status}.")
    return _EVENTS.validate_json(reply.body)
