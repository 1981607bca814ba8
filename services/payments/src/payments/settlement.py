"""Settles what is due: takes it from its table, asks the provider, commits what came of it.

No transaction is open while the provider is asked. A crash before the call, during it or after it
leaves the row claimed; when its lease ends the same question is asked again, under the same key.
"""

import asyncio
from collections.abc import Awaitable, Generator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import structlog
from chassis.database import database, on_commit
from chassis.event_log import append
from chassis.telemetry import context_of, tracer
from chassis.worker import Worker
from contracts.payments import PaymentEvent
from sqlalchemy.ext.asyncio import AsyncSession

from payments import provider, store
from payments.domain import Attempt, Payment, Refund
from payments.provider import OutcomeUnknown, Refused
from payments.reports import Intent, RefundReport
from payments.slots import Job, Slots

log = structlog.get_logger(__name__)
AnswerT = TypeVar("AnswerT")

CONCURRENT_CHARGES = 10
CONCURRENT_REFUNDS = 3
POLL_SECONDS = 1.0


async def keep(
    session: AsyncSession, payments: Sequence[Payment], *events: PaymentEvent | None
) -> None:
    """Writes what became of payments together with all it leads to: events, refunds, calls."""
    now = datetime.now(UTC)
    for payment in payments:
        if payment.is_owed_back:
            refunds_before = await store.count_refunds(session, payment)
            give_back(session, payment.compensate(refunds_before, now))
    await append(session, *filter(None, events))
    if any(payment.is_due(now) for payment in payments):
        on_commit(session, charges.wake)


def give_back(session: AsyncSession, refund: Refund) -> None:
    session.add(refund)
    on_commit(session, refunds.wake)


@contextmanager
def in_trace_of(payment: Payment, doing: str) -> Generator[None]:
    """What happens inside continues the trace of the order, whoever caused it."""
    names = {"order_id": str(payment.order_id), "payment_id": str(payment.id)}
    span = tracer.start_as_current_span(doing, context_of(payment.trace_parent), attributes=names)
    with span, structlog.contextvars.bound_contextvars(**names):
        yield


async def claim_payments(limit: int) -> list[Job]:
    now = datetime.now(UTC)
    async with database.transaction() as session:
        claimed = await store.due_payments(session, now, limit)
        for payment in claimed:
            payment.begin(now)
    return [partial(_settle_payment, payment) for payment in claimed]


async def _settle_payment(payment: Payment) -> None:
    with in_trace_of(payment, "settle payment"):
        answer = await _answer(_ask_about(payment))
        async with database.transaction() as session:
            current = await store.lock(session, payment.id)
            event = _conclude(current, answer, attempt=len(payment.attempts))
            current.postpone(payment.due_at, datetime.now(UTC))
            await keep(session, [current], event)
        log.info("payment_asked_about", status=current.status, due_at=current.due_at)


async def _ask_about(payment: Payment) -> Intent:
    """The one call that brings the payment on from where it is."""
    attempt = payment.attempts[-1]
    if payment.intent_id is None:
        return await _ask_for_charge(payment, attempt)
    if payment.is_unwanted:
        return await provider.cancel(payment)
    if attempt.number == 1 or attempt.answered_at:
        return await provider.show(payment)
    return await provider.confirm(payment, attempt)


async def _ask_for_charge(payment: Payment, attempt: Attempt) -> Intent:
    now = datetime.now(UTC)
    stale = attempt.key_may_be_forgotten(now) or payment.may_have_been_forgotten(now)
    if stale and (known := await provider.find_intent(payment)):
        return known
    if payment.is_unwanted:
        with suppress(provider.KeyTaken):  # too late to prevent: the charge tells its outcome
            return await provider.prevent_charge(payment, attempt)
    return await provider.charge(payment, attempt)


def _conclude(
    payment: Payment, answer: Intent | Refused | None, attempt: int
) -> PaymentEvent | None:
    now = datetime.now(UTC)
    match answer:
        case Intent():
            payment.attempts[attempt - 1].answered_at = now
            return payment.learn(answer, now, attempt)
        case Refused():
            return payment.fail(answer.code, now)
        case _:
            return None


async def claim_refunds(limit: int) -> list[Job]:
    now = datetime.now(UTC)
    async with database.transaction() as session:
        claimed = await store.due_refunds(session, now, limit)
        for refund in claimed:
            refund.claim(now)
    return [partial(_settle_refund, refund) for refund in claimed]


async def _settle_refund(refund: Refund) -> None:
    with in_trace_of(refund.payment, "settle refund"):
        answer = await _answer(_ask_for_refund(refund))
        async with database.transaction() as session:
            payment = await store.lock(session, refund.payment_id)
            current = await session.get_one(Refund, refund.id)
            event = _conclude_refund(payment, current, answer)
            current.postpone(refund.due_at, datetime.now(UTC))
            await append(session, *filter(None, [event]))
        log.info("refund_asked_for", refund_id=str(refund.id), status=current.status)


async def _ask_for_refund(refund: Refund) -> RefundReport:
    if refund.provider_id:
        return await provider.show_refund(refund)
    stale = refund.key_may_be_forgotten(datetime.now(UTC))
    if stale and (known := await provider.find_refund(refund)):
        return known
    try:
        return await provider.refund(refund)
    except Refused:
        # It may have been made before a restore, and its key be forgotten since.
        if known := await provider.find_refund(refund):
            return known
        raise


def _conclude_refund(
    payment: Payment, refund: Refund, answer: RefundReport | Refused | None
) -> PaymentEvent | None:
    now = datetime.now(UTC)
    match answer:
        case RefundReport():
            return payment.learn_of_refund(refund, answer, now)
        case Refused():
            log.error("refund_refused", refund_id=str(refund.id), code=answer.code)
            payment.fail_refund(refund, answer.code, now)
        case _:
            pass
    return None


async def _answer(call: Awaitable[AnswerT]) -> AnswerT | Refused | None:
    """None when the outcome is not known yet."""
    try:
        return await call
    except Refused as refusal:
        return refusal
    except OutcomeUnknown as trouble:
        log.warning("outcome_unknown", error=str(trouble))
        return None


charge_slots = Slots(CONCURRENT_CHARGES, claim_payments)
refund_slots = Slots(CONCURRENT_REFUNDS, claim_refunds)
charges = Worker("charges", charge_slots.fill, poll_seconds=POLL_SECONDS)
refunds = Worker("refunds", refund_slots.fill, poll_seconds=POLL_SECONDS)


async def finish() -> None:
    """Lets the calls that are under way end."""
    await asyncio.gather(charge_slots.finish(), refund_slots.finish())
