"""The provider's webhooks: who is believed, and what they change."""

import hashlib
import hmac
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from chassis.testing import Delivered, bearer, logged
from contracts.payments import PaymentFailed, PaymentRefunded, PaymentSucceeded
from payments.domain import ProviderEvent
from payments.webhooks import InvalidSignature, SignatureVerifier, forget_old_webhooks
from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

SECRET = "whsec_of_the_tests"
PAYLOAD = b'{"id": "evt_1"}'


def sign(payload: bytes, timestamp: float, secret: str = SECRET) -> str:
    message = f"{int(timestamp)}.".encode() + payload
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


@pytest.fixture
def verifier() -> SignatureVerifier:
    verifier = SignatureVerifier()
    verifier.trust(SECRET)
    return verifier


@pytest.fixture
async def waiting(deliver: Delivered, desk: Any, order: Any) -> Any:
    """An order whose payment waits for the customer."""
    it = order("pm_card_requires_action")
    await deliver(it.created())
    await deliver(it.reserved())
    await desk.settle()
    return it


def test_a_signature_of_now_is_believed(verifier: SignatureVerifier) -> None:
    verifier.verify(f"t=1000,v1={sign(PAYLOAD, 1000)}", PAYLOAD, now=1000.0)


def test_one_of_several_signatures_is_enough(verifier: SignatureVerifier) -> None:
    header = f"t=1000, v1={sign(PAYLOAD, 1000, 'old')}, v1={sign(PAYLOAD, 1000)}, v0=00"
    verifier.verify(header, PAYLOAD, now=1000.0)


@pytest.mark.parametrize("age", [-300, 300])
def test_the_timestamp_may_be_five_minutes_off(verifier: SignatureVerifier, age: int) -> None:
    verifier.verify(f"t=1000,v1={sign(PAYLOAD, 1000)}", PAYLOAD, now=1000.0 + age)


GOOD = sign(PAYLOAD, 1000)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "t=1000",
        f"v1={GOOD}",
        f"t=,v1={GOOD}",
        f"t=1001,v1={GOOD}",
        f"t=1000,v1={GOOD[:-1]}",
        f"t=1000,v0={GOOD}",
        f"t=1000,v1={sign(PAYLOAD, 1000, 'other')}",
        f"t=1000,v1={sign(b'other', 1000)}",
        f"t=-1000,v1={GOOD}",
        f"t=\u0661\u0660\u0660\u0660,v1={GOOD}",
        f"t={'9' * 5000},v1={GOOD}",
        "t=1000,v1=\u00e9",
        "=,=,,",
    ],
)
def test_any_other_signature_is_refused(verifier: SignatureVerifier, header: str) -> None:
    with pytest.raises(InvalidSignature):
        verifier.verify(header, PAYLOAD, now=1000.0)


@pytest.mark.parametrize("age", [-301, 301])
def test_an_old_or_a_future_signature_is_refused(verifier: SignatureVerifier, age: int) -> None:
    with pytest.raises(InvalidSignature):
        verifier.verify(f"t=1000,v1={GOOD}", PAYLOAD, now=1000.0 + age)


def test_nobody_is_believed_before_the_secret_is_known() -> None:
    with pytest.raises(InvalidSignature):
        SignatureVerifier().verify(f"t=1000,v1={sign(PAYLOAD, 1000, '')}", PAYLOAD, now=1000.0)


def test_an_empty_secret_is_none() -> None:
    with pytest.raises(ValueError, match="empty"):
        SignatureVerifier().trust("")


@pytest.mark.parametrize(
    "signed",
    ["", "t=1,v1=00", f"t={int(time.time())},v1={'0' * 64}"],
    ids=["absent", "old", "forged"],
)
async def test_an_unsigned_webhook_is_a_bad_request_and_changes_nothing(
    desk: Any, provider: Any, hear: Any, waiting: Any, signed: str
) -> None:
    await provider.approve((await desk.payment_of(waiting.id)).client_secret)
    for webhook in provider.webhooks():
        reply = await hear(webhook, signed or "t=0")
        assert reply.status_code == 400
        assert reply.headers["content-type"] == "application/problem+json"

    assert (await desk.payment_of(waiting.id)).status == "requires_action"


async def test_a_payload_changed_under_way_is_a_bad_request(hear: Any) -> None:
    now = time.time()
    header = f"t={int(now)},v1={sign(PAYLOAD, now)}"
    assert (await hear(PAYLOAD.decode() + " ", header)).status_code == 400


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "no json",
        "[]",
        "{}",
        '{"id": "evt_1", "type": "payment_intent.succeeded", "data": {}}',
        '{"id": "evt_1", "type": "payment_intent.succeeded", "data": {"object": {"id": 1}}}',
        '{"id": "evt_1", "type": "refund.created", "data": {"object": {"status": "succeeded"}}}',
    ],
)
async def test_a_signed_payload_that_is_no_event_is_a_bad_request(hear: Any, payload: str) -> None:
    assert (await hear(payload)).status_code == 400


async def test_an_event_of_an_unknown_type_is_ignored(hear: Any, db: Any) -> None:
    reply = await hear('{"id": "evt_1", "type": "charge.updated", "data": {"object": {}}}')

    assert (reply.status_code, reply.json()) == (200, {"received": True})
    assert await db.scalar(select(func.count()).select_from(ProviderEvent)) == 0


@pytest.mark.parametrize("metadata", [None, {}, {"payment_id": "x"}, {"payment_id": str(uuid4())}])
@pytest.mark.parametrize("kind", ["payment_intent.succeeded", "refund.created"])
async def test_what_is_not_ours_is_ignored(
    hear: Any, metadata: dict[str, str] | None, kind: str
) -> None:
    data = {"id": "pi_1", "status": "succeeded", "amount_received": 5, "metadata": metadata}
    event = {"id": "evt_1", "type": kind, "data": {"object": data}}

    assert (await hear(json.dumps(event))).status_code == 200
    assert await logged(PaymentSucceeded) == []


async def test_a_refund_made_on_the_providers_own_pages_is_ignored(
    desk: Any, hear: Any, waiting: Any
) -> None:
    payment = await desk.payment_of(waiting.id)
    metadata = {"payment_id": str(payment.id), "refund_id": str(uuid4())}
    data = {"id": "re_1", "status": "succeeded", "metadata": metadata}
    event = {"id": "evt_1", "type": "refund.created", "data": {"object": data}}

    assert (await hear(json.dumps(event))).status_code == 200
    assert await logged(PaymentRefunded) == []


async def test_a_webhook_cannot_name_the_refund_of_another_payment(
    deliver: Delivered, desk: Any, hear: Any, order: Any, waiting: Any
) -> None:
    it = order()
    await deliver(it.created())
    await deliver(it.reserved())
    await desk.settle()
    await deliver(it.cancelled())
    [refund] = await desk.refunds_of(it.id)
    metadata = {
        "payment_id": str((await desk.payment_of(waiting.id)).id),
        "refund_id": str(refund.id),
    }
    data = {"id": "re_1", "status": "succeeded", "metadata": metadata}
    event = {"id": "evt_1", "type": "refund.created", "data": {"object": data}}
    reply = await hear(json.dumps(event))

    assert reply.status_code == 200
    assert [refund.status for refund in await desk.refunds_of(it.id)] == ["pending"]


async def test_the_customers_approval_arrives_by_webhook(
    desk: Any, provider: Any, hear: Any, waiting: Any
) -> None:
    await provider.approve((await desk.payment_of(waiting.id)).client_secret)
    for webhook in provider.webhooks():
        await hear(webhook)

    payment = await desk.payment_of(waiting.id)
    assert (payment.status, payment.client_secret) == ("succeeded", None)
    [event] = await logged(PaymentSucceeded)
    assert event.order_id == waiting.id


async def test_the_customers_refusal_arrives_by_webhook(
    desk: Any, provider: Any, hear: Any, waiting: Any
) -> None:
    await provider.reject((await desk.payment_of(waiting.id)).client_secret)
    for webhook in provider.webhooks():
        await hear(webhook)

    assert (await desk.payment_of(waiting.id)).status == "failed"
    [event] = await logged(PaymentFailed)
    assert event.reason == "payment_intent_authentication_failure"


async def test_a_webhook_that_comes_again_changes_nothing(
    desk: Any, provider: Any, hear: Any, waiting: Any
) -> None:
    await provider.approve((await desk.payment_of(waiting.id)).client_secret)
    for webhook in provider.webhooks():
        assert [(await hear(webhook)).status_code for _ in range(3)] == [200, 200, 200]

    assert len(await logged(PaymentSucceeded)) == 1


async def test_an_event_is_known_by_its_id(
    desk: Any, provider: Any, hear: Any, waiting: Any
) -> None:
    await provider.approve((await desk.payment_of(waiting.id)).client_secret)
    first, second = (json.loads(webhook) for webhook in provider.webhooks())
    await hear(json.dumps(first))
    await hear(json.dumps(second | {"id": first["id"]}))

    assert (await desk.payment_of(waiting.id)).status == "requires_action"


async def test_webhooks_out_of_order_never_move_a_payment_backwards(
    desk: Any, provider: Any, hear: Any, waiting: Any
) -> None:
    await provider.approve((await desk.payment_of(waiting.id)).client_secret)
    wanted, succeeded = provider.webhooks()
    assert json.loads(wanted)["type"] == "payment_intent.requires_action"
    await hear(succeeded)
    await hear(wanted)

    assert (await desk.payment_of(waiting.id)).status == "succeeded"


async def test_a_late_wish_for_the_customer_does_not_undo_the_confirmation(
    desk: Any, provider: Any, hear: Any, client: Any, waiting: Any
) -> None:
    [wanted] = provider.webhooks()
    payment = await desk.payment_of(waiting.id)
    headers = bearer(waiting.user_id) | {"Idempotency-Key": "1"}
    await client.post(f"/payments/{payment.id}/confirm", headers=headers)
    await hear(wanted)

    assert (await desk.payment_of(waiting.id)).status == "processing"
    await desk.settle()
    assert (await desk.payment_of(waiting.id)).status == "succeeded"


async def test_a_wish_for_the_customer_may_be_known_by_webhook_only(
    deliver: Delivered, desk: Any, provider: Any, hear: Any, order: Any
) -> None:
    it = order("pm_card_requires_action")
    await deliver(it.created())
    await deliver(it.reserved())
    provider.faults.append("answer lost")
    await desk.settle()
    for webhook in provider.webhooks():
        await hear(webhook)

    payment = await desk.payment_of(it.id)
    assert (payment.status, payment.due_at) == ("requires_action", None)
    assert payment.client_secret


async def test_a_refund_whose_answer_was_lost_is_known_by_webhook(
    deliver: Delivered, desk: Any, provider: Any, hear: Any, order: Any
) -> None:
    it = order()
    await deliver(it.created())
    await deliver(it.reserved())
    await desk.settle()
    await deliver(it.cancelled())
    provider.faults.append("answer lost")
    await desk.settle()
    for webhook in provider.webhooks():
        await hear(webhook)
    calls = len(provider.calls)
    await desk.settle_everything()

    assert len(provider.calls) == calls
    assert (await desk.payment_of(it.id)).status == "refunded"
    assert len(await logged(PaymentRefunded)) == 1


async def test_webhooks_are_forgotten_with_the_events_of_their_time(db: AsyncConnection) -> None:
    days = {"kept": 29.9, "old": 30.1, "older": 90}
    ages = {name: datetime.now(UTC) - timedelta(days=age) for name, age in days.items()}
    rows = [{"id": name, "received_at": received_at} for name, received_at in ages.items()]
    await db.execute(insert(ProviderEvent), rows)

    assert [await forget_old_webhooks() for _ in range(2)] == [2, 0]
    assert (await db.scalars(select(ProviderEvent.id))).all() == ["kept"]
