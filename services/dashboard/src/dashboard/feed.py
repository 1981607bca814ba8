"""What the feed keeps of each event: a short phrase, and nothing that could name a person."""

from datetime import datetime
from typing import NamedTuple, TypeAlias
from uuid import UUID

from contracts.catalog import ProductUpdated
from contracts.inventory import LowStock, StockEvent, StockRejected, StockReleased, StockReserved
from contracts.notifications import NotificationSent
from contracts.orders import (
    OrderCancellationRequested,
    OrderCancelled,
    OrderCreated,
    OrderEvent,
    OrderStatusChanged,
)
from contracts.payments import PaymentEvent, PaymentFailed, PaymentRefunded, PaymentSucceeded
from contracts.tracking import ShipmentCreated, ShipmentEvent, ShipmentUpdated, ShipmentVoided
from contracts.users import UserDeleted, UserEvent, UserLoggedIn, UserRegistered, UserUpdated

OfOrders: TypeAlias = (
    OrderCreated | OrderStatusChanged | OrderCancellationRequested | OrderCancelled
)
OfInventory: TypeAlias = StockReserved | StockRejected | StockReleased
OfPayments: TypeAlias = PaymentSucceeded | PaymentFailed | PaymentRefunded
OfTracking: TypeAlias = ShipmentCreated | ShipmentUpdated | ShipmentVoided
OfUsers: TypeAlias = UserRegistered | UserUpdated | UserDeleted | UserLoggedIn
AnyEvent: TypeAlias = (
    OfOrders
    | OfInventory
    | OfPayments
    | OfTracking
    | OfUsers
    | LowStock
    | NotificationSent
    | ProductUpdated
)


class FeedEntry(NamedTuple):
    """A line of the feed, and a step of the journey of `order_id` if there is one.

    `revision` tells the events of one topic and order apart: an event published again has the same.
    """

    topic: str
    order_id: UUID | None
    revision: str
    phrase: str
    amount: int | None
    currency: str | None
    occurred_at: datetime


def entry_of(event: AnyEvent) -> FeedEntry:
    amount, currency = _money(event)
    return FeedEntry(
        topic=event.topic,
        order_id=getattr(event, "order_id", None),
        revision=_revision(event),
        phrase=_phrase(event),
        amount=amount,
        currency=currency,
        occurred_at=event.occurred_at,
    )


def _money(event: AnyEvent) -> tuple[int | None, str | None]:
    match event:
        case OrderCreated():
            return event.total, event.currency
        case PaymentEvent():
            return event.amount, event.currency
        case _:
            return None, None


def _revision(event: AnyEvent) -> str:
    match event:
        case OrderEvent():
            return str(event.order_version)
        case ShipmentUpdated():
            return str(event.shipment_version)
        case PaymentRefunded():
            return str(event.refund_id)
        case PaymentFailed():
            return event.reason
        case NotificationSent():
            return str(event.notification_id)
        case _:
            return ""


def _phrase(event: AnyEvent) -> str:
    match event:
        case OrderEvent():
            return _order_phrase(event)
        case StockEvent():
            return _stock_phrase(event)
        case PaymentEvent():
            return _payment_phrase(event)
        case ShipmentEvent():
            return _shipment_phrase(event)
        case UserEvent():
            return _user_phrase(event)
        case LowStock():
            return f"Low stock: {event.sku}, {event.available} left"
        case NotificationSent():
            return f"E-mail sent: {_words(event.template)}"
        case ProductUpdated():
            return f"Product {event.sku} {'updated' if event.active else 'withdrawn'}"


def _order_phrase(event: OfOrders) -> str:
    match event:
        case OrderCreated():
            return f"Order placed: {_count(sum(line.quantity for line in event.lines), 'item')}"
        case OrderStatusChanged():
            return f"Order now {event.status}"
        case OrderCancellationRequested():
            return "Cancellation requested"
        case OrderCancelled():
            return f"Order cancelled: {_words(event.reason)}"


def _stock_phrase(event: OfInventory) -> str:
    match event:
        case StockReserved():
            return f"Stock reserved: {_count(sum(line.quantity for line in event.lines), 'item')}"
        case StockRejected():
            return f"Out of stock: {', '.join(shortage.sku for shortage in event.shortages)}"
        case StockReleased():
            return f"Stock released: {_count(sum(line.quantity for line in event.lines), 'item')}"


def _payment_phrase(event: OfPayments) -> str:
    match event:
        case PaymentSucceeded():
            return "Payment received"
        case PaymentFailed():
            return f"Payment failed: {_words(event.reason)}"
        case PaymentRefunded():
            return "Payment refunded"


def _shipment_phrase(event: OfTracking) -> str:
    """The carrier's own words and places are left out: they may tell where a customer lives."""
    match event:
        case ShipmentCreated():
            return f"Tracking number {event.tracking_number}"
        case ShipmentUpdated():
            return f"Parcel {_words(event.status)}"
        case ShipmentVoided():
            return "Parcel stopped"


def _user_phrase(event: OfUsers) -> str:
    match event:
        case UserRegistered():
            return "A customer signed up"
        case UserDeleted():
            return "An account was deleted"
        case UserLoggedIn():
            return "Someone signed in"
        case UserUpdated():
            return "A profile was changed"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
