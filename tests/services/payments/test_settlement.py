"""Trouble between here and the provider: whatever is lost, the customer is charged once."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from chassis.database import database
from chassis.identity import Role
from chassis.sidecar import Reply
from chassis.tables import LoggedEvent, first_id_at
from chassis.testing import Delivered, as_entry, bearer, logged
from contracts.payments import PaymentFailed, PaymentRefunded, PaymentSucceeded
from payments import settlement
from payments.domain import Attempt, Payment, Refund
from sqlalchemy import select, update

TROUBLE = ["request lost", "answer lost", "crash", 401, 409, 429, 500, 503]


@pytest.fixture
async def charge(deliver: Delivered, order: Any) -> Any:
    """A payment that is due to be charged."""
    it = order()
    await deliver(it.created())
    await deliver(it.reserved())
    return it


@pytest.fixture
async def refund(deliver: Delivered, desk: Any, charge: Any) -> Any:
    """A payment whose refund is due."""
    await desk.settle()
    await deliver(charge.cancelled())
    return charge


async def _die(*_: Any) -> None:
    raise ConnectionError


async def _a_day_passes(provider: Any) -> None:
    provider.forget_keys()
    yesterday = datetime.now(UTC) - timedelta(days=1)
    async with database.transaction() as session:
        await session.execute(update(Attempt).values(started_at=yesterday))
        await session.execute(update(Refund).values(created_at=yesterday))


@pytest.mark.parametrize("trouble", TROUBLE)
async def test_a_charge_of_unknown_outcome_is_asked_for_until_it_is_known(
    desk: Any, provider: Any, charge: Any, trouble: int | str
) -> None:
    provider.faults.extend([trouble, trouble])
    await desk.settle_everything()

    assert len(provider.charges(charge.id)) == 1
    assert len(await logged(PaymentSucceeded)) == 1
    payment = await desk.payment_of(charge.id)
    assert payment.status == "succeeded"
    assert [attempt.outcome for attempt in payment.attempts] == ["succeeded"]
    assert set(provider.keys) == {f"payment:{payment.id}:1"}


@pytest.mark.parametrize("trouble", TROUBLE)
async def test_a_refund_of_unknown_outcome_is_asked_for_until_it_is_known(
    desk: Any, provider: Any, refund: Any, trouble: int | str
) -> None:
    provider.faults.extend([trouble, trouble])
    await desk.settle_everything()

    [charge] = provider.charges(refund.id)
    assert charge.amount_refunded == charge.amount
    assert len(await logged(PaymentRefunded)) == 1
    [made] = await desk.refunds_of(refund.id)
    assert made.status == "succeeded"
    assert set(provider.keys[1:]) == {f"refund:{made.id}"}


async def test_an_attempt_is_committed_before_the_provider_is_asked(
    desk: Any, provider: Any, charge: Any
) -> None:
    await settlement.claim_payments(1)  # and then the process dies

    payment = await desk.payment_of(charge.id)
    assert payment.status == "processing"
    assert [attempt.number for attempt in payment.attempts] == [1]
    assert provider.calls == []
    await desk.settle()
    assert provider.calls == []  # the lease holds
    await desk.settle_everything()
    assert len(provider.charges(charge.id)) == 1


async def test_a_crash_before_the_attempt_is_committed_leaves_the_payment_due(
    desk: Any, provider: Any, charge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(Payment, "begin", die)
        with pytest.raises(ConnectionError):
            await settlement.claim_payments(1)

    assert (await desk.payment_of(charge.id)).attempts == []
    await desk.settle()
    assert len(provider.charges(charge.id)) == 1


async def test_a_crash_while_a_charge_is_recorded_loses_nothing_and_doubles_nothing(
    desk: Any, provider: Any, charge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(settlement, "append", _die)
        with pytest.raises(ConnectionError):
            await desk.settle()
    assert (await desk.payment_of(charge.id)).status == "processing"
    await desk.settle_everything()

    assert len(provider.charges(charge.id)) == 1
    assert len(await logged(PaymentSucceeded)) == 1


async def test_a_crash_while_a_refund_is_recorded_loses_nothing_and_doubles_nothing(
    desk: Any, provider: Any, refund: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(settlement, "append", _die)
        with pytest.raises(ConnectionError):
            await desk.settle()
    assert (await desk.payment_of(refund.id)).refunded == 0
    await desk.settle_everything()

    [charge] = provider.charges(refund.id)
    assert charge.amount_refunded == charge.amount
    assert len(await logged(PaymentRefunded)) == 1


async def test_the_webhook_may_bring_the_outcome_before_the_answer(
    desk: Any, provider: Any, charge: Any, hear: Any
) -> None:
    provider.faults.append("answer lost")
    await desk.settle()
    [webhook] = provider.webhooks()
    assert (await hear(webhook)).status_code == 200

    payment = await desk.payment_of(charge.id)
    assert (payment.status, payment.due_at) == ("succeeded", None)
    calls = len(provider.calls)
    await desk.settle_everything()
    assert len(provider.calls) == calls
    assert len(await logged(PaymentSucceeded)) == 1


async def test_an_answer_that_comes_after_its_webhook_changes_nothing(
    desk: Any, provider: Any, charge: Any, hear: Any
) -> None:
    [job] = await settlement.claim_payments(1)
    provider.faults.append("crash")
    with pytest.raises(RuntimeError, match="died"):
        await job()
    await hear(provider.webhooks()[0])
    await job()

    assert len(await logged(PaymentSucceeded)) == 1
    assert (await desk.payment_of(charge.id)).due_at is None


async def test_a_late_answer_to_the_charge_does_not_undo_the_confirmation(
    deliver: Delivered, desk: Any, provider: Any, client: httpx.AsyncClient, order: Any
) -> None:
    it = order("pm_card_requires_action")
    await deliver(it.created())
    await deliver(it.reserved())
    [slow] = await settlement.claim_payments(1)
    await slow()
    payment = await desk.payment_of(it.id)
    headers = bearer(it.user_id) | {"Idempotency-Key": "1"}
    await client.post(f"/payments/{payment.id}/confirm", headers=headers)
    [confirmation] = await settlement.claim_payments(1)
    lease = (await desk.payment_of(it.id)).due_at
    await slow()

    payment = await desk.payment_of(it.id)
    assert (payment.status, payment.due_at) == ("processing", lease)
    await confirmation()
    assert len(provider.charges(it.id)) == 1


async def test_pauses_between_questions_grow_to_a_minute(
    desk: Any, provider: Any, charge: Any
) -> None:
    pauses: list[float] = []
    for _ in range(8):
        provider.faults.append(503)
        await desk.time_passes()
        asked_at = datetime.now(UTC)
        await desk.settle()
        due_at = (await desk.payment_of(charge.id)).due_at
        pauses.append(round((due_at - asked_at).total_seconds()))

    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


async def test_no_charge_starts_for_an_order_that_was_cancelled_while_the_outcome_was_unknown(
    deliver: Delivered, desk: Any, provider: Any, charge: Any
) -> None:
    provider.faults.append("request lost")
    await desk.settle()
    await deliver(charge.cancelled())
    await desk.settle_everything()

    assert provider.charges(charge.id) == []
    assert (await desk.payment_of(charge.id)).status == "cancelled"
    late = provider.keys[0]
    await _charge_again(provider, charge, await desk.payment_of(charge.id), late)
    assert provider.charges(charge.id) == []


async def _charge_again(provider: Any, order: Any, payment: Payment, key: str) -> None:
    """The request that was believed lost arrives at the provider after all."""
    form = (
        f"amount={order.total}&currency=eur&payment_method=pm_card_ok&confirm=true"
        f"&metadata[order_id]={order.id}&metadata[payment_id]={payment.id}"
    )
    reply = await provider.invoke(
        "payment-provider",
        "v1/payment_intents",
        method="POST",
        body=form.encode(),
        content_type="application/x-www-form-urlencoded",
        headers={"Idempotency-Key": key},
    )
    assert reply.json()["error"]["type"] == "idempotency_error"


@pytest.mark.parametrize("trouble", ["answer lost", "crash"])
async def test_a_charge_under_way_when_its_order_was_cancelled_is_given_back(
    deliver: Delivered, desk: Any, provider: Any, charge: Any, trouble: str
) -> None:
    provider.faults.append(trouble)
    await desk.settle()
    await deliver(charge.cancelled())
    await desk.settle_everything()

    assert len(provider.charges(charge.id)) == 1
    assert provider.kept(charge.id) == 0
    assert (await desk.payment_of(charge.id)).status == "refunded"
    assert len(await logged(PaymentSucceeded)) == 1
    assert len(await logged(PaymentRefunded)) == 1


async def test_a_charge_that_succeeds_after_the_cancellation_is_given_back(
    deliver: Delivered, desk: Any, provider: Any, charge: Any
) -> None:
    [job] = await settlement.claim_payments(1)
    await deliver(charge.cancelled())
    await job()
    await desk.settle()

    assert len(provider.charges(charge.id)) == 1
    assert provider.kept(charge.id) == 0


async def test_a_wish_for_the_customer_that_comes_after_the_cancellation_is_closed(
    deliver: Delivered, desk: Any, provider: Any, order: Any
) -> None:
    it = order("pm_card_requires_action")
    await deliver(it.created())
    await deliver(it.reserved())
    [job] = await settlement.claim_payments(1)
    await deliver(it.cancelled())
    await job()
    await desk.settle_everything()

    assert (await desk.payment_of(it.id)).status == "cancelled"
    assert provider.calls[-1][1].endswith("/cancel")


@pytest.mark.parametrize("trouble", ["request lost", "answer lost", 409])
async def test_trouble_while_a_charge_is_prevented_is_waited_out(
    deliver: Delivered, desk: Any, provider: Any, charge: Any, trouble: int | str
) -> None:
    provider.faults.extend(["request lost", trouble])
    await desk.settle()
    await deliver(charge.cancelled())
    await desk.settle_everything()

    assert provider.charges(charge.id) == []
    assert (await desk.payment_of(charge.id)).status == "cancelled"


@pytest.mark.parametrize("trouble", ["request lost", "answer lost"])
@pytest.mark.parametrize("cancelled", [False, True])
async def test_after_the_provider_forgot_the_key_the_charge_is_looked_for_first(
    deliver: Delivered, desk: Any, provider: Any, charge: Any, trouble: str, *, cancelled: bool
) -> None:
    provider.faults.append(trouble)
    await desk.settle()
    await _a_day_passes(provider)
    if cancelled:
        await deliver(charge.cancelled())
    await desk.settle_everything()

    charges = provider.charges(charge.id)
    assert len(charges) == (0 if cancelled and trouble == "request lost" else 1)
    assert provider.kept(charge.id) == (0 if cancelled else charge.total)


@pytest.mark.parametrize("trouble", ["request lost", "answer lost"])
async def test_after_the_provider_forgot_the_key_the_refund_is_looked_for_first(
    desk: Any, provider: Any, refund: Any, trouble: str
) -> None:
    provider.faults.append(trouble)
    await desk.settle()
    await _a_day_passes(provider)
    await desk.settle_everything()

    assert provider.kept(refund.id) == 0
    [event] = await logged(PaymentRefunded)
    assert event.refunded_total == refund.total


async def test_a_refund_that_the_provider_takes_its_time_for_is_asked_about(
    desk: Any, provider: Any, reply_with: Any, refund: Any
) -> None:
    pending = {"id": "re_slow", "status": "pending"}
    provider.faults.append(reply_with(**pending))
    await desk.settle()
    assert [refund.status for refund in await desk.refunds_of(refund.id)] == ["pending"]

    provider.faults.append(reply_with(**(pending | {"status": "succeeded"})))
    await desk.settle_everything()

    assert provider.calls[-1] == ("GET", "v1/refunds/re_slow")
    assert (await desk.payment_of(refund.id)).status == "refunded"


@pytest.mark.parametrize("status", ["failed", "canceled"])
async def test_a_refund_that_fails_at_the_provider_can_be_asked_for_again(
    desk: Any, provider: Any, reply_with: Any, refund: Any, status: str
) -> None:
    report = {"id": "re_failed", "status": status}
    provider.faults.append(reply_with(**report))
    await desk.settle_everything()

    [failed] = await desk.refunds_of(refund.id)
    assert (failed.status, failed.failure_reason) == ("failed", status)
    payment = await desk.payment_of(refund.id)
    assert (payment.status, payment.refundable) == ("succeeded", refund.total)
    assert await logged(PaymentRefunded) == []


async def test_a_refund_that_the_provider_refuses_is_left_to_people(
    desk: Any, provider: Any, refund: Any
) -> None:
    intent_id = (await desk.payment_of(refund.id)).intent_id
    await provider.invoke(
        "payment-provider",
        "v1/refunds",
        method="POST",
        body=f"payment_intent={intent_id}".encode(),
        content_type="application/x-www-form-urlencoded",
    )
    await desk.settle_everything()

    [refused] = await desk.refunds_of(refund.id)
    assert (refused.status, refused.failure_reason) == ("failed", "charge_already_refunded")


@pytest.mark.parametrize("days_later", [False, True])
async def test_a_charge_that_only_the_provider_knows_is_found_again(
    deliver: Delivered, desk: Any, provider: Any, order: Any, db: Any, *, days_later: bool
) -> None:
    it = order(id=first_id_at(datetime.now(UTC) - timedelta(days=2))) if days_later else order()
    for restored in (False, True):
        copied = await db.begin_nested()
        await deliver(it.created())
        await deliver(it.reserved())
        await desk.settle_everything()
        if not restored:
            await copied.rollback()
            if days_later:
                provider.forget_keys()

    assert len(provider.charges(it.id)) == 1
    assert (await desk.payment_of(it.id)).status == "succeeded"
    assert len(await logged(PaymentSucceeded)) == 1


@pytest.mark.parametrize("days_later", [False, True])
async def test_a_compensation_that_only_the_provider_knows_is_found_again(
    deliver: Delivered, desk: Any, provider: Any, charge: Any, db: Any, *, days_later: bool
) -> None:
    await desk.settle()
    copied = await db.begin_nested()
    await deliver(charge.cancelled())
    await desk.settle()
    assert provider.kept(charge.id) == 0
    await copied.rollback()  # restored
    if days_later:
        provider.forget_keys()
    await deliver(charge.cancelled())
    await desk.settle_everything()

    assert (await desk.payment_of(charge.id)).status == "refunded"
    assert len(await logged(PaymentRefunded)) == 1


async def test_a_compensation_after_one_that_failed_is_another_refund(
    deliver: Delivered, desk: Any, provider: Any, reply_with: Any, refund: Any
) -> None:
    provider.faults.append(reply_with(id="re_failed", status="failed"))
    await desk.settle()
    await deliver(refund.cancelled())
    await desk.settle()

    made = await desk.refunds_of(refund.id)
    assert [each.status for each in made] == ["failed", "succeeded"]
    assert provider.kept(refund.id) == 0


async def test_a_refund_by_hand_is_none_of_the_compensations(
    deliver: Delivered, desk: Any, provider: Any, client: httpx.AsyncClient, charge: Any
) -> None:
    await desk.settle()
    url = f"/payments/{(await desk.payment_of(charge.id)).id}/refunds"
    for number in range(2):
        headers = bearer(charge.user_id, Role.STAFF) | {"Idempotency-Key": str(number)}
        assert (await client.post(url, json={"amount": 10}, headers=headers)).status_code == 201
    await deliver(charge.cancelled())
    await desk.settle()

    made = await desk.refunds_of(charge.id)
    assert [each.amount for each in made] == [10, 10, charge.total - 20]
    assert provider.kept(charge.id) == 0


async def test_money_taken_after_the_payment_had_failed_is_given_back(
    deliver: Delivered, desk: Any, provider: Any, order: Any, hear: Any
) -> None:
    it = order("pm_card_requires_action")
    await deliver(it.created())
    await deliver(it.reserved())
    await desk.settle()
    payment = await desk.payment_of(it.id)
    await provider.reject(payment.client_secret)
    for webhook in provider.webhooks():
        await hear(webhook)
    [failed] = await logged(PaymentFailed)
    assert failed.reason == "payment_intent_authentication_failure"

    await provider.invoke(
        "payment-provider",
        f"v1/payment_intents/{payment.intent_id}/confirm",
        method="POST",
        body=b"payment_method=pm_card_ok",
        content_type="application/x-www-form-urlencoded",
    )
    for webhook in provider.webhooks():
        await hear(webhook)
    assert provider.kept(it.id) == it.total
    await desk.settle()

    assert provider.kept(it.id) == 0
    assert (await desk.payment_of(it.id)).status == "refunded"
    assert await logged(PaymentSucceeded) == []


async def test_an_intent_that_is_still_processing_is_looked_at_again(
    desk: Any, provider: Any, reply_with: Any, charge: Any
) -> None:
    slow = {"id": "pi_slow", "status": "processing"}
    provider.faults.append(reply_with(**slow))
    await desk.settle()
    assert (await desk.payment_of(charge.id)).status == "processing"

    done = slow | {"status": "succeeded", "amount_received": charge.total}
    provider.faults.append(reply_with(**done))
    await desk.settle_everything()

    assert provider.calls[-1] == ("GET", "v1/payment_intents/pi_slow")
    assert (await desk.payment_of(charge.id)).status == "succeeded"
    assert len(await logged(PaymentSucceeded)) == 1


async def test_an_intent_that_the_provider_cancelled_by_itself_fails_the_payment(
    desk: Any, provider: Any, reply_with: Any, charge: Any
) -> None:
    cancelled = {"id": "pi_gone", "status": "canceled"}
    provider.faults.append(reply_with(**cancelled))
    await desk.settle_everything()

    [event] = await logged(PaymentFailed)
    assert event.reason == "canceled"


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"id": 7}'])
async def test_an_answer_that_cannot_be_read_is_no_answer(
    desk: Any, provider: Any, charge: Any, body: bytes
) -> None:
    provider.faults.append(Reply(200, {}, body))
    provider.faults.append(Reply(400, {}, body))
    await desk.settle_everything()

    assert len(provider.charges(charge.id)) == 1
    assert (await desk.payment_of(charge.id)).status == "succeeded"


async def test_what_is_written_continues_the_trace_of_the_order(
    deliver: Delivered, desk: Any, order: Any
) -> None:
    it = order()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    for event in (it.created(), it.reserved()):
        entry = as_entry(event.topic, event.model_dump(mode="json"), producertrace=trace)
        await deliver.raw(event.topic, [entry])
    await desk.settle()

    async with database.transaction() as session:
        written = await session.scalar(select(LoggedEvent.trace_parent))
    assert str(written).split("-")[1] == trace.split("-")[1]
