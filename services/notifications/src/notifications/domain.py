"""The notification: what is worth telling, whom it may reach, and when to give up."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from chassis.tables import Base
from contracts.inventory import LowStock
from contracts.notifications import NotificationSent
from contracts.orders import (
    CancellationReason,
    OrderCancelled,
    OrderCreated,
    OrderStatus,
    OrderStatusChanged,
)
from contracts.payments import PaymentRefunded, PaymentSucceeded
from contracts.tracking import ShipmentCreated
from contracts.users import UserRegistered
from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

MAX_ATTEMPTS = 8


class Template(StrEnum):
    WELCOME = "welcome"
    ORDER_CONFIRMED = "order_confirmed"
    PAYMENT_RECEIVED = "payment_received"
    SHIPMENT_CREATED = "shipment_created"
    ORDER_SHIPPED = "order_shipped"
    ORDER_DELIVERED = "order_delivered"
    ORDER_CANCELLED = "order_cancelled"
    REFUND_ISSUED = "refund_issued"
    LOW_STOCK = "low_stock"


# A contract made or ended, and money moved, are told whatever the preference says.
ESSENTIAL = frozenset(
    {
        Template.ORDER_CONFIRMED,
        Template.PAYMENT_RECEIVED,
        Template.ORDER_CANCELLED,
        Template.REFUND_ISSUED,
    }
)

# The other steps are told by the service that makes them.
PROGRESS = {
    OrderStatus.SHIPPED: Template.ORDER_SHIPPED,
    OrderStatus.DELIVERED: Template.ORDER_DELIVERED,
}

REASONS = {
    CancellationReason.OUT_OF_STOCK: "something in it is out of stock",
    CancellationReason.PAYMENT_FAILED: "the payment was declined",
    CancellationReason.PAYMENT_EXPIRED: "no payment reached us in time",
    CancellationReason.REQUESTED: "its cancellation was requested",
}


class Status(StrEnum):
    PENDING = "pending"
    SENT = "sent"
    FAILED = "failed"
    SUPPRESSED = "suppressed"


@dataclass(frozen=True)
class Message:
    """Something to tell a user, or the operators if it names none.

    `happening` identifies what it tells of, so that one happening is told once however often, and
    under however many event ids, it is reported. `params` hold nothing that identifies a person:
    name and address come from the contact, when the mail is sent.
    """

    template: Template
    happening: object
    user_id: UUID | None = None
    order_id: UUID | None = None
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def dedupe_key(self) -> str:
        return f"{self.template}:{self.happening}"


class Contact(Base):
    """How to reach a user. One whose account was deleted has neither name nor address."""

    __tablename__ = "contacts"

    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str | None]
    name: Mapped[str | None]
    email_notifications: Mapped[bool]
    version: Mapped[int]


class Notification(Base):
    """The delivery log, and the queue of what is still to be sent.

    A pending row is free unless it is leased: to the worker that sends it, or, after a refusal, to
    nobody, as its back-off. `refusal` is what the mail server said last.
    """

    __tablename__ = "notifications"
    __table_args__ = (
        Index("ix_notifications_pending", "id", postgresql_where=text("status = 'pending'")),
        Index("ix_notifications_user_id_id", "user_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID | None]
    order_id: Mapped[UUID | None]
    template: Mapped[str]
    dedupe_key: Mapped[str] = mapped_column(unique=True)
    params: Mapped[dict[str, Any]]
    status: Mapped[str]
    attempts: Mapped[int]
    refusal: Mapped[str | None]
    trace_parent: Mapped[str | None]
    leased_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]

    def may_reach(self, contact: Contact | None) -> bool:
        """Not a user who is gone or wants no mail; no contact stands for the operators."""
        if contact is None:
            return True
        wanted = contact.email_notifications or self.template in ESSENTIAL
        return wanted and contact.email is not None

    def suppress(self) -> None:
        self.status = Status.SUPPRESSED
        self.refusal = None  # a mail server quotes the address, and its owner may be gone

    def conclude(self, refusal: str | None, now: datetime) -> NotificationSent | None:
        """What an attempt to send it led to: the event, or none if the mail server refused it.

        The lease of a refused one goes on, and the next is longer; after the last there is none.
        """
        if refusal is None:
            self.status = Status.SENT
            self.sent_at = now
            return self._as_event(now)
        self.attempts += 1
        self.refusal = refusal
        if self.attempts == MAX_ATTEMPTS:
            self.status = Status.FAILED
        return None

    def _as_event(self, now: datetime) -> NotificationSent:
        return NotificationSent(
            notification_id=self.id,
            template=self.template,
            user_id=self.user_id,
            order_id=self.order_id,
            occurred_at=now,
        )


def is_mail_address(value: str) -> bool:
    """Whether it is one bare address: no list, no display name, nothing that ends a header."""
    plain = r"[^\s@<>()\[\],;:\\\"]+"
    return value.isprintable() and re.fullmatch(f"{plain}@{plain}", value) is not None


def welcome(event: UserRegistered) -> Message:
    return Message(Template.WELCOME, event.user_id, event.user_id)


def order_confirmed(event: OrderCreated) -> Message:
    lines = [
        {"name": line.name, "quantity": line.quantity, "amount": line.quantity * line.unit_price}
        for line in event.lines
    ]
    params = {"lines": lines, "total": event.total, "currency": event.currency}
    return Message(Template.ORDER_CONFIRMED, event.order_id, event.user_id, event.order_id, params)


def payment_received(event: PaymentSucceeded) -> Message:
    params = {"amount": event.amount, "currency": event.currency}
    return Message(
        Template.PAYMENT_RECEIVED, event.payment_id, event.user_id, event.order_id, params
    )


def refund_issued(event: PaymentRefunded) -> Message:
    params = {"amount": event.amount, "currency": event.currency}
    return Message(Template.REFUND_ISSUED, event.refund_id, event.user_id, event.order_id, params)


def shipment_created(event: ShipmentCreated) -> Message:
    params = {"tracking_number": event.tracking_number}
    return Message(
        Template.SHIPMENT_CREATED, event.shipment_id, event.user_id, event.order_id, params
    )


def order_progressed(event: OrderStatusChanged) -> Message | None:
    if (template := PROGRESS.get(event.status)) is None:
        return None
    params = {"tracking_number": event.tracking_number}
    return Message(template, event.order_id, event.user_id, event.order_id, params)


def order_cancelled(event: OrderCancelled) -> Message:
    params = {"reason": REASONS[event.reason]}
    return Message(Template.ORDER_CANCELLED, event.order_id, event.user_id, event.order_id, params)


def low_stock(event: LowStock) -> Message:
    """Once each time that the stock falls to the threshold: the moment identifies the fall."""
    fall = f"{event.sku}:{event.occurred_at.isoformat()}"
    return Message(Template.LOW_STOCK, fall, params=event.model_dump(exclude={"occurred_at"}))
