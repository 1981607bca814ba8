"""The worker that hands queued mail to the sidecar."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from chassis.database import database
from chassis.sidecar import SidecarUnavailable, sidecar
from chassis.tables import LoggedEvent
from chassis.testing import Delivered, StandInSidecar, as_entry, logged
from contracts.inventory import LowStock
from contracts.notifications import NotificationSent
from contracts.orders import OrderCreated, OrderStatusChanged
from contracts.users import UserDeleted, UserRegistered, UserUpdated
from notifications import store
from notifications.domain import MAX_ATTEMPTS, Notification
from notifications.sending import BATCH, send_waiting
from sqlalchemy import select, text, update
from waybill.waiting import Condition, until

REFUSED = 'sending email failed: gomail: could not send email 1: 550 "5.1.1 no such user"'
AWAY = "sending email failed: dial tcp 127.0.0.1:2525: connect: connection refused"


async def queue() -> list[Notification]:
    async with database.transaction() as session:
        return list(await session.scalars(select(Notification).order_by(Notification.id)))


async def outcome() -> list[tuple[str, int, bool]]:
    """Status, attempts and whether it is leased, of each notification."""
    return [(n.status, n.attempts, n.leased_until is not None) for n in await queue()]


async def let_leases_end() -> None:
    async with database.transaction() as session:
        ended = text("leased_until - interval '1 day'")
        await session.execute(update(Notification).values(leased_until=ended))


async def customers(deliver: Delivered, make: Callable[..., Any], *emails: str) -> list[UUID]:
    """One customer for each address, each with an order that was just shipped."""
    ids = [uuid4() for _ in emails]
    for user_id, email in zip(ids, emails, strict=True):
        await deliver(make(UserUpdated, user_id=user_id, email=email))
        await deliver(make(OrderStatusChanged, user_id=user_id, order_id=uuid4()))
    return ids


@pytest.mark.usefixtures("db")
async def test_a_mail_is_sent_once_and_announced(
    deliver: Delivered, make: Callable[..., Any], mail_server: Any
) -> None:
    await deliver(make(UserRegistered))

    assert await send_waiting() == 1
    assert await send_waiting() == 0

    [(recipient, subject, html)] = mail_server.mails
    assert (recipient, subject) == ("ada@example.org", "Welcome to Waybill")
    assert "Hello Ada," in html
    [notification] = await queue()
    assert notification.status == "sent"
    assert notification.sent_at is not None
    [event] = await logged(NotificationSent)
    assert event.notification_id == notification.id
    assert (event.template, event.user_id) == ("welcome", notification.user_id)


@pytest.mark.usefixtures("db")
async def test_a_mail_waits_until_its_reader_is_known(
    deliver: Delivered, make: Callable[..., Any], mail_server: Any
) -> None:
    await deliver(make(OrderCreated))
    assert await send_waiting() == 0

    await deliver(make(UserUpdated))

    assert await send_waiting() == 1
    assert [recipient for recipient, _, _ in mail_server.mails] == ["ada@example.org"]


@pytest.mark.usefixtures("db")
async def test_a_mail_goes_to_the_address_of_the_day_it_is_sent(
    deliver: Delivered, make: Callable[..., Any], mail_server: Any
) -> None:
    await deliver(make(UserRegistered))
    await deliver(make(UserUpdated, user_version=2, email="new@example.org"))

    await send_waiting()

    assert [recipient for recipient, _, _ in mail_server.mails] == ["new@example.org"]


@pytest.mark.usefixtures("db")
async def test_operators_need_not_be_known(
    deliver: Delivered, make: Callable[..., Any], mail_server: Any
) -> None:
    await deliver(make(LowStock))

    await send_waiting()

    assert [recipient for recipient, _, _ in mail_server.mails] == ["operations@waybill.localhost"]


@pytest.mark.usefixtures("db")
async def test_who_wants_no_mail_gets_the_essential_only(
    deliver: Delivered, make: Callable[..., Any], mail_server: Any
) -> None:
    await deliver(make(UserRegistered, email_notifications=False))
    await deliver(make(OrderCreated))
    await deliver(make(OrderStatusChanged))

    assert await send_waiting() == 3

    assert [subject for _, subject, _ in mail_server.mails] == ["We have your order"]
    assert sorted(n.status for n in await queue()) == ["sent", "suppressed", "suppressed"]


@pytest.mark.usefixtures("db")
async def test_a_deleted_user_gets_no_mail_and_leaves_no_address_behind(
    deliver: Delivered, make: Callable[..., Any], mail_server: Any
) -> None:
    quoted = f"{REFUSED} <ada@example.org>"
    mail_server.says["ada@example.org"] = quoted
    await deliver(make(UserRegistered))
    await send_waiting()
    assert "ada@example.org" in str([n.refusal for n in await queue()])

    await deliver(make(UserDeleted))
    await deliver(make(OrderCreated))
    await let_leases_end()
    await send_waiting()

    assert mail_server.mails == []
    assert [(n.status, n.refusal) for n in await queue()] == [("suppressed", None)] * 2


@pytest.mark.usefixtures("db")
async def test_a_refused_mail_does_not_hold_up_the_others(
    deliver: Delivered, make: Callable[..., Any], mail_server: Any
) -> None:
    mail_server.says["nobody@example.org"] = REFUSED
    await customers(deliver, make, "nobody@example.org", "no address", "ada@example.org")

    assert await send_waiting() == 3

    assert [recipient for recipient, _, _ in mail_server.mails] == ["ada@example.org"]
    assert await outcome() == [("pending", 1, True), ("pending", 1, True), ("sent", 0, True)]
    assert '550 "5.1.1 no such user"' in str((await queue())[0].refusal)


@pytest.mark.usefixtures("db")
async def test_a_mail_that_cannot_be_rendered_does_not_hold_up_the_others(
    deliver: Delivered, make: Callable[..., Any], mail_server: Any
) -> None:
    await deliver(make(UserUpdated))
    await deliver(make(OrderCreated, currency="no currency"))
    await deliver(make(OrderStatusChanged))

    await send_waiting()

    assert [subject for _, subject, _ in mail_server.mails] == ["Your order is on its way"]
    assert "no currency" in str((await queue())[0].refusal)


@pytest.mark.usefixtures("db")
async def test_attempts_are_spread_by_a_lease_that_doubles_and_end(
    deliver: Delivered, make: Callable[..., Any], mail_server: Any
) -> None:
    mail_server.says["nobody@example.org"] = REFUSED
    await customers(deliver, make, "nobody@example.org")
    remaining = select(text("extract(epoch FROM leased_until - now())")).select_from(Notification)
    leases: list[float] = []

    for _ in range(MAX_ATTEMPTS):
        assert await send_waiting() == 1
        async with database.transaction() as session:
            leases.append(float(await session.scalar(remaining) or 0))
        assert await send_waiting() == 0
        await let_leases_end()

    assert leases == pytest.approx([120 * 2**n for n in range(MAX_ATTEMPTS)], rel=0.1)
    assert await outcome() == [("failed", MAX_ATTEMPTS, True)]
    assert await send_waiting() == 0
    assert await logged(NotificationSent) == []


@pytest.mark.usefixtures("db")
async def test_while_the_mail_server_is_away_no_mail_uses_up_attempts(
    deliver: Delivered, make: Callable[..., Any], mail_server: Any
) -> None:
    mail_server.says["second@example.org"] = AWAY
    emails = [f"{place}@example.org" for place in ("first", "second", "third", "fourth")]
    await customers(deliver, make, *emails)

    with pytest.raises(SidecarUnavailable):
        await send_waiting()

    free, leased = ("pending", 0, False), ("pending", 0, True)
    assert await outcome() == [("sent", 0, True), leased, free, free]
    mail_server.says.clear()
    assert await send_waiting() == 2
    await let_leases_end()
    assert await send_waiting() == 1
    assert sorted(recipient for recipient, _, _ in mail_server.mails) == sorted(emails)


@pytest.mark.usefixtures("db", "mail_server")
async def test_while_the_sidecar_is_away_no_mail_uses_up_attempts(
    deliver: Delivered, make: Callable[..., Any], stand_in: StandInSidecar
) -> None:
    await customers(deliver, make, "ada@example.org")
    stand_in.away = True

    with pytest.raises(SidecarUnavailable):
        await send_waiting()

    assert await outcome() == [("pending", 0, True)]


@pytest.mark.usefixtures("db")
async def test_a_stop_in_the_middle_keeps_what_was_sent_and_frees_the_rest(
    deliver: Delivered,
    make: Callable[..., Any],
    mail_server: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await customers(deliver, make, "first@x.org", "second@x.org", "third@x.org")

    async def stop_at_the_second(*args: Any) -> None:
        if mail_server.mails:
            raise asyncio.CancelledError
        await mail_server.take(*args)

    monkeypatch.setattr(sidecar, "call_binding", stop_at_the_second)
    with pytest.raises(asyncio.CancelledError):
        await send_waiting()

    free, leased = ("pending", 0, False), ("pending", 0, True)
    assert await outcome() == [("sent", 0, True), leased, free]
    assert len(await logged(NotificationSent)) == 1


@pytest.mark.usefixtures("db", "mail_server")
async def test_the_announcement_continues_the_trace_of_the_happening(
    deliver: Delivered, make: Callable[..., Any]
) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    data = make(UserRegistered).model_dump(mode="json")
    await deliver.raw("user.registered", [as_entry("user.registered", data, producertrace=trace)])

    await send_waiting()

    async with database.transaction() as session:
        assert await session.scalar(select(LoggedEvent.trace_parent)) == trace


@pytest.mark.usefixtures("db")
async def test_mails_go_one_after_the_other(
    deliver: Delivered, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two calls of Dapr's SMTP binding at once may swap their recipients."""
    await customers(deliver, make, "first@example.org", "second@example.org")
    steps: list[str] = []

    async def slow(*args: Any) -> None:
        steps.append(f"begin {args[3]['emailTo']}")
        await asyncio.sleep(0)
        steps.append(f"end {args[3]['emailTo']}")

    monkeypatch.setattr(sidecar, "call_binding", slow)
    await send_waiting()

    first, second = "first@example.org", "second@example.org"
    assert steps == [f"begin {first}", f"end {first}", f"begin {second}", f"end {second}"]


@pytest.mark.usefixtures("concurrent_db")
async def test_workers_at_the_same_time_send_each_mail_once(
    deliver: Delivered, make: Callable[..., Any], mail_server: Any
) -> None:
    emails = [f"customer-{n}@example.org" for n in range(4 * BATCH)]
    await customers(deliver, make, *emails)

    counts = await asyncio.gather(*(send_waiting() for _ in range(4)))

    assert counts == [BATCH] * 4
    assert sorted(recipient for recipient, _, _ in mail_server.mails) == sorted(emails)
    assert len(await logged(NotificationSent)) == len(emails)


@pytest.mark.usefixtures("mail_server")
async def test_no_transaction_is_open_while_a_mail_is_sent(
    deliver: Delivered,
    make: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    concurrent_db: Any,
) -> None:
    await customers(deliver, make, "ada@example.org")
    open_transactions: list[int | None] = []

    async def look(*_: Any) -> None:
        others = "pid <> pg_backend_pid() AND datname = current_database()"
        query = f"SELECT count(*) FROM pg_stat_activity WHERE xact_start IS NOT NULL AND {others}"
        async with concurrent_db.connect() as connection:
            open_transactions.append(await connection.scalar(text(query)))

    monkeypatch.setattr(sidecar, "call_binding", look)
    await send_waiting()

    assert open_transactions == [0]


async def test_forgetting_users_waits_for_the_record_of_mails(
    deliver: Delivered, make: Callable[..., Any], lock_awaited: Condition
) -> None:
    user_ids = sorted((uuid4(), uuid4()))
    for user_id in user_ids:
        await deliver(make(OrderStatusChanged, user_id=user_id, order_id=uuid4()))
    high, newest = [notification.id for notification in await queue()]
    low = UUID(int=0)  # and the last in the table, and in the index by user
    async with database.transaction() as session:
        await session.execute(update(Notification).where(Notification.id == newest).values(id=low))

    async with database.transaction() as recording:
        await store.lock_pending(recording, [low])
        deleted = [make(UserDeleted, user_id=user_id) for user_id in user_ids]
        forgetting = asyncio.create_task(deliver(*deleted))
        await until(lock_awaited, seconds=10, every=0.05)
        await store.lock_pending(recording, [high])
    await forgetting
