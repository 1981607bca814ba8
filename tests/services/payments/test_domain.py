"""The payment's rules, without I/O."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import RFC_4122

import pytest
from chassis.tables import new_id
from contracts.payments import PaymentEvent, PaymentFailed, PaymentSucceeded
from hypothesis import given
from hypothesis import strategies as st
from payments.domain import (
    Attempt,
    NothingToConfirm,
    Payment,
    PaymentStatus,
    Refund,
    RefundStatus,
    RefundTooLarge,
    payment_id_of,
)
from payments.reports import Intent, IntentError, RefundReport

S = PaymentStatus
NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
INTENT_STATUSES = (
    "requires_payment_method",
    "requires_confirmation",
    "requires_action",
    "processing",
    "requires_capture",
    "canceled",
    "succeeded",
)
# What may follow what, seen from outside.
FORWARD: dict[PaymentStatus, set[PaymentStatus]] = {
    S.PENDING: {S.PROCESSING, S.CANCELLED},
    S.PROCESSING: {S.REQUIRES_ACTION, S.SUCCEEDED, S.FAILED, S.CANCELLED},
    S.REQUIRES_ACTION: {S.PROCESSING, S.SUCCEEDED, S.FAILED, S.CANCELLED},
    S.SUCCEEDED: {S.REFUNDED},
    S.FAILED: {S.REFUNDED},
    S.CANCELLED: {S.REFUNDED},
    S.REFUNDED: set(),
}


def payment(**known: Any) -> Payment:
    facts = {
        "user_id": new_id(),
        "amount": 100,
        "currency": "EUR",
        "payment_method": "pm_card_ok",
        "reserved_at": NOW,
        **known,
    }
    return Payment(
        id=new_id(),
        order_id=new_id(),
        status=S.PENDING,
        captured=0,
        refunding=0,
        refunded=0,
        tries=0,
        created_at=NOW,
        **facts,
    )


def charging(**known: Any) -> Payment:
    it = payment(**known)
    it.proceed(NOW)
    it.begin(NOW)
    return it


def paid() -> Payment:
    it = charging()
    it.learn(intent("succeeded"), NOW)
    return it


def waiting() -> Payment:
    it = charging()
    it.learn(intent("requires_action"), NOW)
    return it


def intent(status: str, code: str | None = None) -> Intent:
    return Intent(
        id="pi_1",
        status=status,
        client_secret="pi_1_secret",
        amount_received=100 if status == "succeeded" else 0,
        last_payment_error=IntentError(code=code) if code else None,
    )


@pytest.mark.parametrize("missing", ["amount", "reserved_at"])
def test_a_payment_is_due_once_it_is_known_what_and_when_to_charge(missing: str) -> None:
    it = payment(**{missing: None})
    it.proceed(NOW)
    assert not it.is_due(NOW)

    setattr(it, missing, payment().__dict__[missing])
    it.proceed(NOW)
    assert it.is_due(NOW)


def test_a_repeated_fact_does_not_disturb_a_charge_under_way() -> None:
    it = charging()
    due_at = it.due_at
    assert it.proceed(LATER) is None
    assert it.due_at == due_at


def test_a_lease_outlasts_any_call() -> None:
    it = charging()
    assert not it.is_due(NOW + timedelta(seconds=45))
    assert it.is_due(NOW + timedelta(seconds=60))


def test_what_is_decided_is_not_postponed() -> None:
    it = charging()
    lease = it.due_at
    it.learn(intent("succeeded"), NOW)
    it.postpone(lease, NOW)
    assert it.due_at is None


def test_a_claim_that_somebody_else_took_over_is_left_to_them() -> None:
    it = charging()
    lost = it.due_at
    it.begin(LATER)
    taken = it.due_at
    it.postpone(lost, LATER)
    assert it.due_at == taken


def test_a_decided_payment_keeps_no_client_secret() -> None:
    it = waiting()
    assert it.client_secret
    it.learn(intent("succeeded"), LATER)
    assert it.client_secret is None


def test_a_decline_without_a_code_is_a_decline() -> None:
    it = charging()
    declined = intent("requires_payment_method").model_copy(
        update={"last_payment_error": IntentError()}
    )
    event = it.learn(declined, LATER)
    assert isinstance(event, PaymentFailed)
    assert event.reason == "declined"


def test_the_outcome_keeps_its_time_when_it_is_said_again() -> None:
    it = charging()
    first = it.learn(intent("succeeded"), NOW)
    assert isinstance(first, PaymentSucceeded)
    assert it.proceed(LATER) == first


def test_only_what_waits_can_be_confirmed() -> None:
    for it in (payment(), charging(), paid()):
        with pytest.raises(NothingToConfirm):
            it.confirm(NOW)


def test_a_cancelled_order_cannot_be_confirmed() -> None:
    it = waiting()
    it.cancelled_at = NOW
    it.cancel(NOW)
    assert it.is_due(NOW)
    with pytest.raises(NothingToConfirm):
        it.confirm(NOW)


def test_a_repeated_cancellation_does_not_disturb_the_one_under_way() -> None:
    it = waiting()
    it.cancelled_at = NOW
    it.cancel(NOW)
    it.begin(NOW)
    it.cancel(LATER - timedelta(seconds=1))
    assert not it.is_due(LATER - timedelta(seconds=1))


@pytest.mark.parametrize("amount", [0, -1, 101])
def test_a_refund_is_at_most_what_is_left(amount: int) -> None:
    it = paid()
    with pytest.raises(RefundTooLarge):
        it.refund(amount, None, NOW)
    assert it.refundable == 100


def test_a_refund_that_failed_frees_its_amount() -> None:
    it = paid()
    refund = it.refund(60, None, NOW)
    assert it.refundable == 40
    it.learn_of_refund(refund, RefundReport(id="re_1", status="failed"), LATER)

    assert it.refundable == 100
    assert (refund.status, refund.failure_reason) == (RefundStatus.FAILED, "failed")


def test_a_decided_refund_is_not_decided_again() -> None:
    it = paid()
    refund = it.refund(60, None, NOW)
    assert it.learn_of_refund(refund, RefundReport(id="re_1", status="succeeded"), NOW)
    for status in ("succeeded", "failed", "pending"):
        assert it.learn_of_refund(refund, RefundReport(id="re_1", status=status), LATER) is None

    assert (it.refunded, it.refunding, refund.status) == (60, 60, RefundStatus.SUCCEEDED)


def test_an_idempotency_key_is_trusted_for_less_time_than_the_provider_keeps_it() -> None:
    attempt = Attempt(payment_id=new_id(), number=1, started_at=NOW)
    assert not attempt.key_may_be_forgotten(NOW + timedelta(hours=12))
    assert attempt.key_may_be_forgotten(NOW + timedelta(hours=12, seconds=1))


Report = st.builds(intent, st.sampled_from(INTENT_STATUSES), st.sampled_from([None, "declined"]))
Step = st.one_of(
    st.sampled_from(["reserve", "cancel", "claim", "confirm", "refund done", "refund failed"]),
    st.tuples(Report, st.integers(1, 3)),
)


def test_the_id_of_a_payment_follows_from_its_order_and_is_as_old() -> None:
    orders = [new_id() for _ in range(20)]
    ids = [payment_id_of(order_id) for order_id in orders]
    assert ids == [payment_id_of(order_id) for order_id in orders]
    assert [i.int >> 80 for i in ids] == [order_id.int >> 80 for order_id in orders]
    assert {(i.version, i.variant) for i in ids} == {(7, RFC_4122)}
    assert len({*orders, *ids}) == 40


@given(st.lists(Step, max_size=25))
def test_whatever_the_provider_says_a_payment_moves_forward_only(steps: list[Any]) -> None:
    it = payment(reserved_at=None)
    events: list[PaymentEvent] = []
    refunds: list[Refund] = []
    for step in steps:
        before = PaymentStatus(it.status)
        event = _take(it, step, refunds)
        after = PaymentStatus(it.status)
        assert after == before or after in FORWARD[before]
        events += [event] if event else []
        assert 0 <= it.refunded <= it.refunding <= it.captured <= 100
        assert it.status not in {S.SUCCEEDED, S.FAILED, S.CANCELLED, S.REFUNDED} or not it.due_at

    outcomes = [event for event in events if isinstance(event, PaymentSucceeded | PaymentFailed)]
    assert len(outcomes) <= 1
    assert len({refund.id for refund in refunds}) == len(refunds)
    given_back = [refund.amount for refund in refunds if refund.status != RefundStatus.FAILED]
    assert it.refunding == sum(given_back)
    if it.is_unwanted or it.status in {S.FAILED, S.CANCELLED}:
        assert it.refundable == 0 or len(given_back) < len(refunds)


def _take(it: Payment, step: Any, refunds: list[Refund]) -> PaymentEvent | None:
    """One step as the use cases take it; steps that are not open now change nothing."""
    open_refund = next((r for r in refunds if r.status == RefundStatus.PENDING), None)
    event: PaymentEvent | None = None
    match step:
        case "reserve" if it.status == S.PENDING:
            it.reserved_at = NOW
            it.proceed(NOW)
        case "cancel":
            it.cancelled_at = NOW
            it.cancel(NOW)
        case "claim" if it.due_at:
            it.begin(NOW)
        case "confirm" if it.status == S.REQUIRES_ACTION and not it.is_unwanted:
            it.confirm(NOW)
        case "refund done" if open_refund:
            report = RefundReport(id="re_1", status="succeeded")
            return it.learn_of_refund(open_refund, report, NOW)
        case "refund failed" if open_refund:
            return it.learn_of_refund(open_refund, RefundReport(id="re_1", status="failed"), NOW)
        case (Intent() as report, int(attempt)) if it.attempts:
            event = it.learn(report, NOW, attempt)
        case _:
            return None
    if it.is_owed_back:
        refunds.append(it.compensate(len(refunds), NOW))
    return event
