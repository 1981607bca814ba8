"""What events, the provider's webhooks, customers and staff make of payments."""

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog
from chassis.event_log import append
from chassis.problems import NotFound
from sqlalchemy import ColumnElement, select
from sqlalchemy.exc import NoResultFound
from sqlalchemy.ext.asyncio import AsyncSession

from payments import store
from payments.domain import Payment, Refund
from payments.reports import Intent, RefundReport
from payments.settlement import give_back, in_trace_of, keep

log = structlog.get_logger(__name__)


class PaymentNotFound(NotFound):
    pass


async def get_payment(
    session: AsyncSession, payment_id: UUID, visible: ColumnElement[bool]
) -> Payment:
    """Raises `PaymentNotFound` for one that is not visible, as for one that is not there."""
    with _not_found(payment_id):
        query = select(Payment).where(Payment.id == payment_id, visible)
        return (await session.scalars(query)).one()


@contextmanager
def _not_found(payment_id: UUID) -> Generator[None]:
    try:
        yield
    except NoResultFound as error:
        raise PaymentNotFound(f"There is no payment {payment_id}.") from error


async def add_facts(session: AsyncSession, facts: Iterable[dict[str, Any]]) -> None:
    """Payments that are complete now get charged; those that are decided say so again."""
    payments = await store.merge(session, facts)
    now = datetime.now(UTC)
    await keep(session, payments, *(payment.proceed(now) for payment in payments))


async def undo(session: AsyncSession, cancellations: Iterable[dict[str, Any]]) -> None:
    """Payments of cancelled orders are prevented, stopped or given back, or say again they were."""
    payments = await store.merge(session, cancellations)
    made = await store.refunds_made(session, payments)
    now = datetime.now(UTC)
    for payment in payments:
        payment.cancel(now)
    await keep(session, payments, *(payment.refunded_event(refund) for payment, refund in made))


async def confirm(session: AsyncSession, payment_id: UUID, visible: ColumnElement[bool]) -> Payment:
    """Has the customer's confirmation carried to the provider.

    Raises `PaymentNotFound` or `NothingToConfirm`.
    """
    with _not_found(payment_id):
        payment = await store.lock(session, payment_id, visible)
    payment.confirm(datetime.now(UTC))
    await keep(session, [payment])
    return payment


async def request_refund(
    session: AsyncSession, payment_id: UUID, amount: int | None, reason: str | None
) -> Refund:
    """Raises `PaymentNotFound` or `RefundTooLarge`."""
    with _not_found(payment_id):
        payment = await store.lock(session, payment_id)
    refund = payment.refund(amount, reason, datetime.now(UTC))
    give_back(session, refund)
    return refund


async def hear_of_intent(session: AsyncSession, intent: Intent) -> None:
    """The provider's news; that of an intent which is not ours is none."""
    if payment := await _named_by(session, intent.metadata):
        with in_trace_of(payment, "hear of intent"):
            await keep(session, [payment], payment.learn(intent, datetime.now(UTC)))


async def hear_of_refund(session: AsyncSession, report: RefundReport) -> None:
    """As `hear_of_intent`."""
    if payment := await _named_by(session, report.metadata):
        refund = await session.get(Refund, _id(report.metadata, "refund_id"))
        if refund is None or refund.payment_id != payment.id:
            log.warning("webhook_names_unknown_refund", provider_refund_id=report.id)
            return
        with in_trace_of(payment, "hear of refund"):
            event = payment.learn_of_refund(refund, report, datetime.now(UTC))
            await append(session, *filter(None, [event]))


async def _named_by(session: AsyncSession, metadata: Mapping[str, str]) -> Payment | None:
    """The payment that we wrote on the provider's object, locked."""
    try:
        return await store.lock(session, _id(metadata, "payment_id"))
    except NoResultFound:
        log.warning("webhook_names_unknown_payment", payment_id=metadata.get("payment_id"))
        return None


def _id(metadata: Mapping[str, str], name: str) -> UUID:
    """An id that nothing has if there is none."""
    try:
        return UUID(metadata.get(name, ""))
    except ValueError:
        return UUID(int=0)
