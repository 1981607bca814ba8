"""The dead-letter desk as people use it: they read a service's open letters, and decide on each."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Query
from opentelemetry import trace
from pydantic import BaseModel
from pydantic_core import from_json
from sqlalchemy import Select, SQLColumnExpression, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from chassis.consumer import Subscriptions, handle_alone
from chassis.database import database
from chassis.dead_letters import stored_reason
from chassis.identity import require_app_token
from chassis.problems import Unavailable
from chassis.tables import DeadLetter
from chassis.telemetry import context_of
from chassis.transience import is_transient

log = structlog.get_logger(__name__)

MOST_LETTERS = 500
LONGEST_EXCERPT = 4_000
IS_OPEN = DeadLetter.resolution.is_(None)
_UNREADABLE = "It cannot be read as JSON. It can only be discarded."


class Resolution(StrEnum):
    REPLAYED = "replayed"
    DISCARDED = "discarded"


class Letter(BaseModel):
    """An open letter; `id` is unlike that of any other service's.

    Lists have the first 4000 characters of each payload; `payload_length` counts all of them.
    """

    id: str
    service: str
    topic: str
    event_id: UUID | None
    reason: str
    attempts: int
    trace_id: str | None
    received_at: datetime
    payload: str
    payload_length: int


class Letters(BaseModel):
    """The newest; `total` counts all that are open."""

    items: list[Letter]
    total: int


class Decision(BaseModel):
    """How a letter was resolved, by whichever decision came first; or why it is still open."""

    id: str
    resolution: Resolution | None
    resolved_at: datetime | None
    resolved_by: str | None
    attempts: int
    refusal: str | None = None


class Decider(BaseModel):
    """Who decides: the id of a user."""

    by: UUID


@dataclass(frozen=True)
class Desk:
    """The desk of this service. A letter that is not there is None."""

    service: str
    subscriptions: Subscriptions

    async def letters(self, limit: int) -> Letters:
        excerpt = func.left(DeadLetter.payload, LONGEST_EXCERPT)
        newest = _open(excerpt).order_by(DeadLetter.received_at.desc(), DeadLetter.id).limit(limit)
        async with database.transaction() as session:
            rows = (await session.execute(newest)).all()
            total = await session.scalar(select(func.count()).where(IS_OPEN))
        return Letters(items=[self._letter(*row) for row in rows], total=total or 0)

    async def letter(self, letter_id: UUID) -> Letter | None:
        query = _open(DeadLetter.payload).where(DeadLetter.id == letter_id)
        async with database.transaction() as session:
            row = (await session.execute(query)).one_or_none()
        return self._letter(*row) if row else None

    def _letter(self, letter: DeadLetter, payload: str, length: int) -> Letter:
        return Letter(
            id=self._public(letter.id),
            service=self.service,
            topic=letter.topic,
            event_id=letter.event_id,
            reason=letter.reason,
            attempts=letter.attempts,
            trace_id=_trace_id(letter.trace_parent),
            received_at=letter.received_at,
            payload=payload,
            payload_length=length,
        )

    def _public(self, letter_id: UUID) -> str:
        return f"{self.service}:{letter_id}"

    async def replay(self, letter_id: UUID, by: UUID) -> Decision | None:
        """Hands the event over again: its effect and the decision are one transaction.

        Raises `Unavailable` after passing trouble; the letter is then as it was.
        """
        refusal = None
        async with database.transaction() as session:
            letter = await _held(session, letter_id)
            if letter and letter.resolution is None:
                refusal = await self._try_again(session, letter)
                if refusal is None:
                    _resolve(letter, Resolution.REPLAYED, by)
        return letter and self._decision(letter, refusal)

    async def discard(self, letter_id: UUID, by: UUID) -> Decision | None:
        async with database.transaction() as session:
            letter = await _held(session, letter_id)
            if letter and letter.resolution is None:
                _resolve(letter, Resolution.DISCARDED, by)
        return letter and self._decision(letter)

    async def _try_again(self, session: AsyncSession, letter: DeadLetter) -> str | None:
        """None, or why the event is refused again."""
        try:
            raw = from_json(letter.payload)
        except ValueError:
            return _UNREADABLE
        try:
            async with session.begin_nested():
                await handle_alone(session, self.subscriptions, raw)
        except Exception as error:
            if is_transient(error):
                raise Unavailable("The event could not be handled now; try again soon.") from error
            letter.attempts += 1
            letter.reason = stored_reason(repr(error))
            return letter.reason
        return None

    def _decision(self, letter: DeadLetter, refusal: str | None = None) -> Decision:
        resolution = letter.resolution
        return Decision(
            id=self._public(letter.id),
            resolution=Resolution(resolution) if resolution else None,
            resolved_at=letter.resolved_at,
            resolved_by=letter.resolved_by,
            attempts=letter.attempts,
            refusal=refusal,
        )


def _open(payload: SQLColumnExpression[str]) -> Select[DeadLetter, str, int]:
    """Open letters, this for their payload, and the whole payload's length."""
    columns = DeadLetter, payload, func.length(DeadLetter.payload)
    return select(*columns).where(IS_OPEN).options(defer(DeadLetter.payload))


def _trace_id(trace_parent: str | None) -> str | None:
    context = trace_parent and trace.get_current_span(context_of(trace_parent)).get_span_context()
    return trace.format_trace_id(context.trace_id) if context and context.is_valid else None


async def _held(session: AsyncSession, letter_id: UUID) -> DeadLetter | None:
    """Locked, so that of two people the second finds what the first decided."""
    return await session.get(DeadLetter, letter_id, with_for_update=True)


def _resolve(letter: DeadLetter, resolution: Resolution, by: UUID) -> None:
    letter.resolution = resolution
    letter.resolved_at = datetime.now(UTC)
    letter.resolved_by = str(by)
    log.info("dead_letter_resolved", letter=str(letter.id), resolution=resolution, by=str(by))


def desk_routes(desk: Desk) -> APIRouter:
    """For the service that shows all desks; its name is in the path for the access control.

    They answer 200, with `null` for a letter that is not there: the caller's circuit breaker
    takes any other status for a failure of this service, and a person must not be able to open it.
    """
    router = APIRouter(
        prefix=f"/internal/{desk.service}/dead-letters",
        include_in_schema=False,
        dependencies=[Depends(require_app_token)],
    )

    @router.get("")
    async def read_letters(limit: Annotated[int, Query(ge=1, le=MOST_LETTERS)]) -> Letters:
        return await desk.letters(limit)

    @router.get("/{letter_id}")
    async def read_letter(letter_id: UUID) -> Letter | None:
        return await desk.letter(letter_id)

    @router.post("/{letter_id}/replay")
    async def replay(letter_id: UUID, decider: Decider) -> Decision | None:
        return await desk.replay(letter_id, decider.by)

    @router.post("/{letter_id}/discard")
    async def discard(letter_id: UUID, decider: Decider) -> Decision | None:
        return await desk.discard(letter_id, decider.by)

    return router
