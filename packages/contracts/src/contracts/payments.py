"""Events of `payments`. Amounts are in minor units of `currency` (ISO 4217)."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from contracts.event import Event


class PaymentEvent(Event):
    payment_id: UUID
    order_id: UUID
    user_id: UUID
    amount: int
    currency: str
    occurred_at: datetime


class PaymentSucceeded(PaymentEvent):
    topic: ClassVar[str] = "payment.succeeded"


class PaymentFailed(PaymentEvent):
    """`reason` is the provider's decline code, such as `card_declined`."""

    topic: ClassVar[str] = "payment.failed"

    reason: str


class PaymentRefunded(PaymentEvent):
    """`amount` is what this refund gave back, `refunded_total` what all of them did so far."""

    topic: ClassVar[str] = "payment.refunded"

    refunded_total: int
    refund_id: UUID
