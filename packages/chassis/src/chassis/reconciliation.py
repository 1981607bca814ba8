"""Anti-entropy: what the producers have logged and the inbox lacks is fetched and takes effect.

The broker is for latency; the event log is for truth. A sidecar reports some publishes that the
broker refused as done, a queue may lose its binding, a disk its messages: here they come back.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from urllib.parse import urlencode
from uuid import UUID

import structlog
from contracts import Event
from fastapi import APIRouter, Depends
from prometheus_client import Counter, Gauge
from pydantic import BaseModel, TypeAdapter
from sqlalchemy import Uuid, any_, bindparam, delete, except_, func, select, true, update
from sqlalchemy.dialects.postgresql import ARRAY, insert

from chassis.consumer import Entry, Status, Subscriptions, take_in
from chassis.database import Session, database
from chassis.event_history import FETCHED_AT_ONCE, HistoryPage, cursor_since
from chassis.identity import require_app_token
from chassis.jobs import Job
from chassis.sidecar import SidecarUnavailable, sidecar
from chassis.tables import Base, DeadLetter, SeenEvent, Watermark, first_id_at

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
    """Everything again if `since` is absent; the read models are emptied first then."""

    since: datetime | None = None


class Reconciliation:
    """Compares the logs of all producers that a service subscribes to with its inbox.

    `read_models` are the tables that hold nothing but what events have told.
    """

    def __init__(
        self, name: str, subscriptions: Subscriptions, read_models: Sequence[type[Base]] = ()
    ) -> None:
        self._name = name
        self._subscriptions = subscriptions
        self._read_models = read_models
        self._topics = topics_by_producer(subscriptions)
        self.job = Job("reconcile", SCHEDULE, self.tick)

    async def tick(self) -> None:
        """A bounded number of pages of each producer; one that is away does not stop the rest."""
        await asyncio.gather(*(self._catch_up(producer) for producer in self._topics))

    async def _catch_up(self, producer: str) -> None:
        try:
            for _ in range(_PAGES_A_TICK):
                if not (await self._step(producer)).more:
                    COMPARED_AT.labels(producer).set_to_current_time()
                    return
        except SidecarUnavailable as trouble:
            log.warning("not_reconciled", producer=producer, error=str(trouble))

    async def _step(self, producer: str) -> Progress:
        """One page; the watermark moves when all of it has taken effect, or lies at the desk."""
        cursor = await _watermark(producer)
        page = await self._page(producer, cursor)
        missing = await _missing([event.id for event in page.events])
        for start in range(0, len(missing), FETCHED_AT_ONCE):
            await self._repair(producer, missing[start : start + FETCHED_AT_ONCE])
        await _move(producer, cursor, page.cursor)
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
        async def replay(session: Session, request: Replay) -> None:
            """Winds the watermarks back and forgets what was seen since; the rest follows."""
            await self._wind_back(session, request.since)

        @router.post("/reconcile")
        async def reconcile() -> list[Progress]:
            """Compares one page of each producer; the caller repeats it while there is more."""
            return list(await asyncio.gather(*(self._step(producer) for producer in self._topics)))

        return router

    async def _wind_back(self, session: Session, since: datetime | None) -> None:
        for model in self._read_models if since is None else ():
            await session.execute(delete(model))
        seen = SeenEvent.event_id >= first_id_at(since) if since else true()
        await session.execute(delete(SeenEvent).where(seen))
        cursor = cursor_since(since) if since else ""
        rows = [{"producer": producer, "cursor": cursor} for producer in self._topics]
        upsert = insert(Watermark)
        moved = {"cursor": upsert.excluded.cursor, "moved_at": func.now()}
        await session.execute(
            upsert.on_conflict_do_update(index_elements=["producer"], set_=moved), rows
        )


def topics_by_producer(subscriptions: Iterable[type[Event]]) -> Mapping[str, Sequence[str]]:
    topics: defaultdict[str, list[str]] = defaultdict(list)
    for event in subscriptions:
        topics[event.producer()].append(event.topic)
    return topics


async def _watermark(producer: str) -> str:
    async with database.transaction() as session:
        mark = await session.get(Watermark, producer)
        if mark is None:
            new = insert(Watermark).values(producer=producer, cursor="").on_conflict_do_nothing()
            await session.execute(new)
        return mark.cursor if mark else ""


async def _move(producer: str, was: str, to: str) -> None:
    """Unless somebody else has moved it meanwhile."""
    if to == was:
        return
    unchanged = Watermark.producer == producer, Watermark.cursor == was
    async with database.transaction() as session:
        await session.execute(
            update(Watermark).where(*unchanged).values(cursor=to, moved_at=func.now())
        )


_IDS = bindparam("ids", type_=ARRAY(Uuid))
_MISSING = except_(
    select(func.unnest(_IDS)),
    select(SeenEvent.event_id).where(SeenEvent.event_id == any_(_IDS)),
    select(DeadLetter.event_id).where(DeadLetter.event_id == any_(_IDS)),
)


async def _missing(ids: Sequence[UUID]) -> list[UUID]:
    """Those that neither took effect here nor lie at the dead-letter desk, in their order."""
    if not ids:
        return []
    async with database.transaction() as session:
        lacking = set(await session.scalars(_MISSING, {"ids": ids}))
    return [event_id for event_id in ids if event_id in lacking]


_EVENTS = TypeAdapter(list[dict[str, object]])


async def _fetch(producer: str, ids: Sequence[UUID]) -> list[dict[str, object]]:
    body = b'{"ids":%s}' % TypeAdapter(list[UUID]).dump_json(list(ids))
    reply = await sidecar.invoke(producer, f"internal/{producer}/events", method="POST", body=body)
    if not reply.ok:
        raise SidecarUnavailable(f"{producer} did not hand out its events: {reply.status}.")
    return _EVENTS.validate_json(reply.body)
