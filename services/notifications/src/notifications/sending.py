"""Mail out: sends what is queued through the sidecar's mail binding."""

import re
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from uuid import UUID

from chassis.database import database
from chassis.event_log import append, traces_by_key
from chassis.sidecar import SidecarUnavailable, sidecar
from chassis.telemetry import context_of, tracer
from chassis.worker import Worker
from prometheus_client import Counter

from notifications import store
from notifications.domain import Contact, Notification
from notifications.rendering import Mail, compose

BINDING = "email"
BATCH = 10  # at ten seconds each, which is when the sidecar gives up on a mail, still in the lease
LONGEST_REFUSAL = 500

NOTIFICATIONS = Counter(
    "notifications_total", "Mails by what became of them.", ["template", "outcome"]
)


async def send_waiting() -> int:
    """Sends the oldest mails that wait; returns how many it dealt with.

    One after the other: Dapr's SMTP binding keeps recipient and subject where the next call
    overwrites them, and two calls at once can send one customer's mail to another.

    SMTP is at least once: a crash after the mail server's answer and before the commit sends the
    mail again, and so does an answer that never arrives. Raises `SidecarUnavailable` when mail
    cannot be sent at all; that costs no mail an attempt.
    """
    async with database.transaction() as session:
        claimed = await store.claim(session, BATCH)
        waiting = deque(claim for claim in claimed if _may_go(*claim))
    refusals: dict[UUID, str | None] = {}
    try:
        while waiting and not sender.is_stopping:
            notification, contact = waiting.popleft()
            refusals[notification.id] = await _send(notification, contact)
    finally:
        if claimed:
            await _record(refusals, untried=[notification for notification, _ in waiting])
    return len(claimed)


sender = Worker("sender", send_waiting)


def _may_go(notification: Notification, contact: Contact | None) -> bool:
    if notification.may_reach(contact):
        return True
    notification.suppress()
    NOTIFICATIONS.labels(notification.template, notification.status).inc()
    return False


async def _send(notification: Notification, contact: Contact | None) -> str | None:
    """None if the mail server took the mail, else why it will not."""
    try:
        mail = compose(notification, contact)
    except Exception as error:  # noqa: BLE001  # one broken mail must not hold up the others
        return repr(error)[:LONGEST_REFUSAL]
    parent = context_of(notification.trace_parent)
    with tracer.start_as_current_span(f"mail {notification.template}", parent):
        return await _hand_over(mail)


async def _hand_over(mail: Mail) -> str | None:
    metadata = {"emailTo": mail.recipient, "subject": mail.subject}
    try:
        await sidecar.call_binding(BINDING, "create", mail.html, metadata)
    except SidecarUnavailable as error:
        if refusal := _refusal(error):
            return refusal
        raise
    return None


def _refusal(error: SidecarUnavailable) -> str | None:
    """What the mail server said about this very message, if it came to that.

    Before it hears of the message there are the connection, TLS and authentication: their trouble
    is every mail's, and passes, or is for the operators to end.
    """
    said = re.search(r"could not send email \d+: (.+)", error.said)
    return said and said[1][:LONGEST_REFUSAL]


async def _record(refusals: Mapping[UUID, str | None], untried: Iterable[Notification]) -> None:
    now = datetime.now(UTC)
    async with database.transaction() as session:
        tried = await store.lock_pending(session, refusals)
        # Each announcement continues the trace of the happening that it was about.
        traces_by_key.set({str(n.id): n.trace_parent for n in tried if n.trace_parent})
        events = [n.conclude(refusals[n.id], now) for n in tried]
        await append(session, *filter(None, events))
        await store.release(session, untried)
    for notification in tried:
        NOTIFICATIONS.labels(notification.template, notification.status).inc()
