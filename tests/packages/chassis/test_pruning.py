"""Pruning: what nobody needs any more goes, batch by batch; what somebody may need stays."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from chassis import pruning
from chassis.database import database
from chassis.pruning import prune
from chassis.tables import DeadLetter, IdempotencyKey, LoggedEvent, SeenEvent, new_id
from chassis.testing import dead_letters
from sqlalchemy import select

NOW = datetime.now(UTC)


def id_of(days: float) -> UUID:
    """A UUIDv7 that was made that many days ago."""
    milliseconds = int((NOW - timedelta(days=days)).timestamp() * 1_000)
    return UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62 | uuid4().int >> 70)


def event(days: float, *, published: bool = True) -> LoggedEvent:
    then = NOW - timedelta(days=days)
    return LoggedEvent(
        id=id_of(days),
        topic="order.created",
        key="k",
        payload={"days": days},
        created_at=then,
        published_at=then if published else None,
    )


def answer(days: float) -> IdempotencyKey:
    then = NOW - timedelta(days=days)
    return IdempotencyKey(caller="c", key=str(days), fingerprint="f", created_at=then)


async def left() -> tuple[list[float], int, list[str]]:
    async with database.transaction() as session:
        events = await session.scalars(select(LoggedEvent))
        seen = await session.scalars(select(SeenEvent))
        keys = await session.scalars(select(IdempotencyKey))
        return (
            sorted(e.payload["days"] for e in events),
            len(seen.all()),
            sorted(key.key for key in keys),
        )


@pytest.mark.usefixtures("db")
async def test_what_is_older_than_its_term_goes_and_the_rest_stays() -> None:
    async with database.transaction() as session:
        session.add_all(event(days) for days in (0, 29.9, 30.1, 90))
        session.add(event(91, published=False))
        session.add_all(SeenEvent(event_id=id_of(days)) for days in (0, 34.9, 35.1, 90))
        session.add_all(answer(days) for days in (0, 6.9, 7.1))
    await prune()

    assert await left() == ([0, 29.9, 91], 2, ["0", "6.9"])


def letter(topic: str, *, received: float, resolved: float | None) -> DeadLetter:
    return DeadLetter(
        id=new_id(),
        topic=topic,
        payload="{}",
        reason="r",
        received_at=NOW - timedelta(days=received),
        resolution=None if resolved is None else "discarded",
        resolved_at=None if resolved is None else NOW - timedelta(days=resolved),
    )


@pytest.mark.usefixtures("db")
async def test_resolved_letters_are_pruned() -> None:
    """Not before the log has forgotten the event, or it would be fetched again."""
    async with database.transaction() as session:
        session.add_all(
            [
                letter("open", received=90, resolved=None),
                letter("lately", received=90, resolved=34.9),
                letter("long ago", received=35.2, resolved=35.1),
            ]
        )
    await prune()
    assert {kept.topic for kept in await dead_letters()} == {"open", "lately"}


@pytest.mark.usefixtures("db")
async def test_it_goes_batch_by_batch_and_not_beyond_its_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pruning, "BATCH", 2)
    monkeypatch.setattr(pruning, "MOST_BATCHES", 2)
    async with database.transaction() as session:
        session.add_all(event(31 + n) for n in range(5))
        session.add_all(SeenEvent(event_id=id_of(40 + n)) for n in range(5))

    await prune()
    events, seen, _ = await left()
    assert (len(events), seen) == (1, 1)
    await prune()
    assert (await left())[:2] == ([], 0)
