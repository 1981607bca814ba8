"""Events of `orders`. Money is in minor units of `currency` (ISO 4217)."""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from contracts.event import Event, Fact


class OrderStatus(StrEnum):
    PENDING = "pending"
    PROCESSING = "processing"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    RETURNED = "returned"


class CancellationReason(StrEnum):
    OUT_OF_STOCK = "out_of_stock"
    PAYMENT_FAILED = "payment_failed"
    PAYMENT_EXPIRED = "payment_expired"
    REQUESTED = "requested"


class OrderLine(Fact):
    sku: str
    name: str
    quantity: int
    unit_price: int


class Address(Fact):
    line1: str
    city: str
    postal_code: str
    country: str


class Package(Fact):
    weight_kg: float
    length_cm: float
    width_cm: float
    height_cm: float


class OrderEvent(Event):
    """Every order event carries the order's version: it grows by one with each change."""

    order_id: UUID
    order_version: int
    user_id: UUID
    occurred_at: datetime


class OrderCreated(OrderEvent):
    topic: ClassVar[str] = "order.created"

    lines: tuple[OrderLine, ...]
    total: int
    currency: str
    shipping_address: Address
    package: Package | None = None
    payment_method: str


class OrderStatusChanged(OrderEvent):
    """The order moved forward. A cancellation is `OrderCancelled`, never this."""

    topic: ClassVar[str] = "order.status_changed"

    status: OrderStatus
    previous_status: OrderStatus
    tracking_number: str | None = None


class OrderCancellationRequested(OrderEvent):
    """Asks tracking whether the parcel can still be stopped."""

    topic: ClassVar[str] = "order.cancellation_requested"


class OrderCancelled(OrderEvent):
    topic: ClassVar[str] = "order.cancelled"

    reason: CancellationReason
    total: int
    currency: str
