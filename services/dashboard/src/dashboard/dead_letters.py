"""The dead-letter desks of all services as one, for staff."""

import asyncio
import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Annotated, Any, TypeVar
from uuid import UUID

import structlog
from chassis.desk import MOST_LETTERS, Decider, Decision, Desk, Letter, Letters
from chassis.identity import Staff
from chassis.paging import Page, PageQuery
from chassis.problems import Conflict, NotFound, Unavailable
from chassis.sidecar import sidecar
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field, TypeAdapter
from sqlalchemy.exc import SQLAlchemyError

from dashboard.subscriptions import subscriptions

log = structlog.get_logger(__name__)
T = TypeVar("T")

_PATIENCE_SECONDS = 3  # the gateway has five
_MOST_PAGES = 10
_LARGEST_PAGE = MOST_LETTERS // _MOST_PAGES


class Consumer(StrEnum):
    """The services that consume events, and so may have dead letters."""

    ORDERS = "orders"
    TRACKING = "tracking"
    INVENTORY = "inventory"
    NOTIFICATIONS = "notifications"
    PAYMENTS = "payments"
    DASHBOARD = "dashboard"


ELSEWHERE = frozenset(Consumer) - {Consumer.DASHBOARD}

_LETTERS = TypeAdapter(Letters)
_LETTER = TypeAdapter[Letter | None](Letter | None)
_DECISION = TypeAdapter[Decision | None](Decision | None)


@dataclass(frozen=True)
class RemoteDesk:
    """A `Desk` in another service. What keeps it from answering raises `Unavailable`."""

    service: Consumer

    async def letters(self, limit: int) -> Letters:
        return await self._ask(_LETTERS, f"?limit={limit}")

    async def letter(self, letter_id: UUID) -> Letter | None:
        return await self._ask(_LETTER, f"/{letter_id}")

    async def replay(self, letter_id: UUID, by: UUID) -> Decision | None:
        return await self._ask(_DECISION, f"/{letter_id}/replay", Decider(by=by))

    async def discard(self, letter_id: UUID, by: UUID) -> Decision | None:
        return await self._ask(_DECISION, f"/{letter_id}/discard", Decider(by=by))

    async def _ask(self, answer: TypeAdapter[T], path: str, decider: Decider | None = None) -> T:
        sent: dict[str, Any] = (
            {"method": "POST", "body": decider.model_dump_json().encode()} if decider else {}
        )
        reply = await sidecar.invoke(
            self.service, f"internal/{self.service}/dead-letters{path}", **sent
        )
        if not reply.ok:
            raise Unavailable(f"The desk of {self.service} could not be asked; try again soon.")
        return answer.validate_json(reply.body)


_DESKS: Mapping[Consumer, Desk | RemoteDesk] = {
    Consumer.DASHBOARD: Desk(Consumer.DASHBOARD, subscriptions),
    **{service: RemoteDesk(service) for service in Consumer if service in ELSEWHERE},
}


class LetterUnknown(NotFound):
    pass


class StillRefused(Conflict):
    """The event has no effect this time either."""


class DeskQuery(PageQuery):
    """No further than each desk tells of at a time; deciding on letters brings up older ones."""

    page: Annotated[int, Field(ge=1, le=_MOST_PAGES)] = 1
    page_size: Annotated[int, Field(ge=1, le=_LARGEST_PAGE)] = 20
    service: Consumer | None = None


class LetterPage(Page[Letter]):
    """The newest first. What the services in `unreachable` have is neither shown nor counted."""

    unreachable: list[Consumer]


class LetterResolved(BaseModel):
    """By this request, or by an earlier one: a letter is decided on once."""

    id: str
    resolution: str
    resolved_at: datetime
    resolved_by: str


router = APIRouter(prefix="/dead-letters", tags=["dead letters"])


@router.get("")
async def list_letters(_: Staff, query: Annotated[DeskQuery, Query()]) -> LetterPage:
    """The events that services gave up on and nobody has decided on yet."""
    asked = [query.service] if query.service else list(Consumer)
    limit = query.offset + query.page_size
    answers = await asyncio.gather(*(_letters(service, limit) for service in asked))
    found = [letters for letters in answers if letters]
    return LetterPage(
        items=_newest(found, query),
        page=query.page,
        page_size=query.page_size,
        total=sum(letters.total for letters in found),
        unreachable=[s for s, letters in zip(asked, answers, strict=True) if letters is None],
    )


async def _letters(service: Consumer, limit: int) -> Letters | None:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return await _DESKS[service].letters(limit)
    except (Unavailable, OSError, SQLAlchemyError, ValueError) as error:
        log.warning("desk_unreachable", owner=service, error=repr(error))
        return None


def _newest(found: Sequence[Letters], query: DeskQuery) -> list[Letter]:
    merged = heapq.merge(
        *(letters.items for letters in found), key=lambda letter: letter.received_at, reverse=True
    )
    return list(islice(merged, query.offset, query.offset + query.page_size))


@dataclass(frozen=True)
class Place:
    desk: Desk | RemoteDesk
    letter_id: UUID


async def _place(letter_id: str) -> Place:  # FastAPI would run any other in a thread
    service, _, number = letter_id.partition(":")
    try:
        return Place(_DESKS[Consumer(service)], UUID(number))
    except ValueError as error:
        raise LetterUnknown(f"There is no letter {letter_id}.") from error


At = Annotated[Place, Depends(_place)]


@router.get("/{letter_id}")
async def read_letter(_: Staff, letter_id: str, at: At) -> Letter:
    """One open letter with its whole payload."""
    letter = await at.desk.letter(at.letter_id)
    if letter is None:
        raise LetterUnknown(f"There is no open letter {letter_id}.")
    return letter


@router.post("/{letter_id}/replay")
async def replay(caller: Staff, letter_id: str, at: At) -> LetterResolved:
    """Hands the event to its service again; it takes effect once, however often this is asked.

    409 tells why the service refuses it again; the letter stays open.
    """
    decision = await at.desk.replay(at.letter_id, caller.user_id)
    return _resolved(letter_id, decision)


@router.post("/{letter_id}/discard")
async def discard(caller: Staff, letter_id: str, at: At) -> LetterResolved:
    """Closes the letter; its event never takes effect."""
    decision = await at.desk.discard(at.letter_id, caller.user_id)
    return _resolved(letter_id, decision)


def _resolved(letter_id: str, decision: Decision | None) -> LetterResolved:
    if decision is None:
        raise LetterUnknown(f"There is no letter {letter_id}.")
    if decision.refusal:
        raise StillRefused(decision.refusal, attempts=decision.attempts)
    return LetterResolved.model_validate(decision, from_attributes=True)
