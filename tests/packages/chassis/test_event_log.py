"""The event log: committed with the change, published after it, and never forgotten."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from chassis import event_log
from chassis.database import database
from chassis.event_log import append, publish_pending, repeat
from chassis.sidecar import SidecarUnavailable
from chassis.tables import LoggedEvent
from chassis.testing import StandInSidecar
from contracts.catalog import ProductUpdated
from contracts.users import UserDeleted
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

NOW = datetime.now(UTC)


def deleted() -> UserDeleted:
    return UserDeleted(user_id=uuid4(), occurred_at=NOW)


def updated() -> ProductUpdated:
    return ProductUpdated(
        sku="A",
        product_version=1,
        name="a",
        category="c",
        price=1,
        currency="EUR",
        active=True,
        occurred_at=NOW,
    )


async def unpublished() -> int:
    query = select(func.count()).where(LoggedEvent.published_at.is_(None))
    async with database.transaction() as session:
        return await session.scalar(query) or 0


@pytest.mark.usefixtures("db")
async def test_committed_events_are_published_as_whole_cloud_events(
    stand_in: StandInSidecar,
) -> None:
    event = deleted()
    async with database.transaction() as session:
        await append(session, event)
    assert await publish_pending() == 1

    [published] = stand_in.published
    assert published["type"] == "user.deleted"
    assert published["subject"] == str(event.user_id)
    assert published["data"] == event.model_dump(mode="json")
    assert UUID(published["id"]).version == 7
    assert await unpublished() == 0
    assert await publish_pending() == 0


@pytest.mark.usefixtures("db", "stand_in")
async def test_an_event_of_a_transaction_that_fails_does_not_exist() -> None:
    async def fail() -> None:
        async with database.transaction() as session:
            await append(session, deleted())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await unpublished() == 0


@pytest.mark.usefixtures("db")
async def test_the_relay_is_woken_by_the_commit_and_not_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    woken: list[str] = []
    monkeypatch.setattr(event_log.relay, "wake", lambda: woken.append("relay"))
    async with database.transaction() as session:
        await append(session, deleted())
        await append(session, deleted())
        assert woken == []
    assert woken == ["relay"]


@pytest.mark.usefixtures("db")
async def test_events_wait_in_the_log_while_the_sidecar_is_away(stand_in: StandInSidecar) -> None:
    async with database.transaction() as session:
        await append(session, deleted(), updated())
    stand_in.away = True
    with pytest.raises(SidecarUnavailable):
        await publish_pending()
    assert await unpublished() == 2

    stand_in.away = False
    assert await publish_pending() == 2
    assert await unpublished() == 0


@pytest.mark.usefixtures("db")
async def test_a_refused_event_does_not_hold_up_its_neighbours(
    stand_in: StandInSidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with database.transaction() as session:
        await append(session, deleted(), updated())

    async def publish(events: list[dict[str, str]]) -> set[str]:
        return {event["id"] for event in events if event["type"] == ProductUpdated.topic}

    monkeypatch.setattr(event_log.sidecar, "publish", publish)
    with pytest.raises(SidecarUnavailable):
        await publish_pending()
    assert await unpublished() == 1


async def test_replicas_share_the_log_and_publish_nothing_twice(
    concurrent_db: AsyncConnection, stand_in: StandInSidecar
) -> None:
    async with database.transaction() as session:
        await append(session, *(deleted() for _ in range(event_log.BATCH + 50)))

    async with database.transaction() as holder:
        await holder.execute(
            select(LoggedEvent)
            .order_by(LoggedEvent.sequence)
            .limit(event_log.BATCH)
            .with_for_update()
        )
        assert await publish_pending() == 50
    assert await publish_pending() == event_log.BATCH
    assert len({event["id"] for event in stand_in.published}) == event_log.BATCH + 50


@pytest.mark.usefixtures("db")
async def test_the_last_event_of_a_key_is_told_again_under_a_new_id(
    stand_in: StandInSidecar,
) -> None:
    first, last, other = (updated().model_copy(update={"product_version": n}) for n in (1, 2, 3))
    other = other.model_copy(update={"sku": "B"})
    gone = deleted()
    async with database.transaction() as session:
        await append(session, first, last, other, gone)
    await publish_pending()
    async with database.transaction() as session:
        await repeat(session, [ProductUpdated], ["A", str(gone.user_id), "unheard of"])
    assert await publish_pending() == 1

    *before, again = stand_in.published
    assert again["data"] == last.model_dump(mode="json")
    assert again["id"] not in {event["id"] for event in before}
