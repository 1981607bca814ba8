"""Named queries over contacts and notifications."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from chassis.paging import PageQuery, fetch_page
from chassis.tables import new_id
from contracts.users import UserProfileEvent
from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from notifications.domain import Contact, Message, Notification, Status

# Longer than a batch can take, for a mail that outlives its lease is sent twice. Doubled by every
# refusal, it spreads the attempts over four hours, in which greylisting passes.
LEASE = timedelta(minutes=2)


async def keep_contacts(session: AsyncSession, profiles: Iterable[UserProfileEvent]) -> None:
    """Keeps the newest profile of each user, whatever the order they come in.

    Here as below, rows are written in the order of their keys, so that batches cannot deadlock.
    """
    newest = {p.user_id: p for p in sorted(profiles, key=lambda p: p.user_version)}
    contact = insert(Contact)
    new = contact.excluded
    upsert = contact.on_conflict_do_update(
        index_elements=[Contact.user_id],
        set_={
            "email": new.email,
            "name": new.name,
            "email_notifications": new.email_notifications,
            "version": new.version,
        },
        where=and_(Contact.version < new.version, Contact.email.is_not(None)),
    )
    rows = [
        {
            "user_id": user_id,
            "email": newest[user_id].email,
            "name": newest[user_id].name,
            "email_notifications": newest[user_id].email_notifications,
            "version": newest[user_id].user_version,
        }
        for user_id in sorted(newest)
    ]
    await session.execute(upsert, rows)


async def forget_contacts(session: AsyncSession, user_ids: Iterable[UUID]) -> None:
    """Erases what identifies the users; the empty row stays and no late profile fills it again."""
    gone = {"email": None, "name": None, "email_notifications": False, "version": 0}
    erase = insert(Contact).on_conflict_do_update(index_elements=[Contact.user_id], set_=gone)
    ids = sorted(set(user_ids))
    await session.execute(erase, [{"user_id": user_id, **gone} for user_id in ids])
    theirs = select(Notification.id).where(Notification.user_id.in_(ids))
    locked = theirs.order_by(Notification.id).with_for_update()
    forget = update(Notification).where(Notification.id.in_(locked))
    await session.execute(forget.values(refusal=None))  # mail servers quote the address


async def enqueue(
    session: AsyncSession, messages: Mapping[str, Message], traces: Mapping[str, str | None]
) -> None:
    """Queues messages, by their dedupe keys, unless the same happening has been told before."""
    now = datetime.now(UTC)
    rows = [
        {
            "id": new_id(),
            "user_id": message.user_id,
            "order_id": message.order_id,
            "template": message.template,
            "dedupe_key": key,
            "params": message.params,
            "status": Status.PENDING,
            "attempts": 0,
            "trace_parent": traces.get(key),
            "created_at": now,
        }
        for key, message in sorted(messages.items())
    ]
    await session.execute(insert(Notification).on_conflict_do_nothing(), rows)


async def claim(session: AsyncSession, limit: int) -> Sequence[tuple[Notification, Contact | None]]:
    """Leases the oldest free notifications whose contact is known; the operators need none."""
    known = or_(Notification.user_id.is_(None), Contact.user_id.is_not(None))
    free = or_(Notification.leased_until.is_(None), Notification.leased_until < func.now())
    ready = (
        select(Notification.id)
        .outerjoin(Contact, Contact.user_id == Notification.user_id)
        .where(Notification.status == Status.PENDING, known, free)
        .order_by(Notification.id)
        .limit(limit)
        .with_for_update(of=Notification, skip_locked=True)
        .cte("ready")
    )
    lease = (
        update(Notification)
        .where(Notification.id == ready.c.id)
        .values(leased_until=func.now() + LEASE * func.power(2, Notification.attempts))
        .returning(Notification)
    )
    leased = sorted(await session.scalars(lease), key=lambda notification: notification.id)
    contacts = await _contacts_of(session, leased)
    return [(notification, contacts.get(notification.user_id)) for notification in leased]


async def _contacts_of(
    session: AsyncSession, notifications: Iterable[Notification]
) -> Mapping[UUID | None, Contact]:
    ids = {notification.user_id for notification in notifications}
    contacts = await session.scalars(select(Contact).where(Contact.user_id.in_(ids)))
    return {contact.user_id: contact for contact in contacts}


async def release(session: AsyncSession, notifications: Iterable[Notification]) -> None:
    ids = [notification.id for notification in notifications]
    theirs = update(Notification).where(Notification.id.in_(ids))
    await session.execute(theirs.values(leased_until=None))


async def lock_pending(session: AsyncSession, ids: Iterable[UUID]) -> Sequence[Notification]:
    query = select(Notification).where(
        Notification.id.in_(list(ids)), Notification.status == Status.PENDING
    )
    return (await session.scalars(query.order_by(Notification.id).with_for_update())).all()


async def page(
    session: AsyncSession, visible: ColumnElement[bool], query: PageQuery
) -> tuple[Sequence[Notification], int]:
    """The newest first (ids grow with time), and how many there are in all."""
    newest_first = select(Notification).where(visible).order_by(Notification.id.desc())
    return await fetch_page(session, newest_first, query)
