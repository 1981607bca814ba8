"""Counts payments by the statuses they come to, once that is committed."""

from functools import partial
from typing import Any

from chassis.database import on_commit
from prometheus_client import Counter
from sqlalchemy import event
from sqlalchemy.ext.asyncio import async_object_session

from payments.domain import Payment

PAYMENTS = Counter("payments_total", "Payments, by the statuses they came to.", ["status"])


def count_payments() -> None:
    """Once a process: from here on every change of a payment's status is counted."""
    event.listen(Payment.status, "set", _count)


def _count(payment: Payment, status: str, *_: Any) -> None:
    if session := async_object_session(payment):
        on_commit(session, partial(PAYMENTS.labels(status).inc))
