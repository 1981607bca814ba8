"""The HTTP contract of `payments`."""

from typing import Any
from uuid import UUID, uuid4, uuid5

import httpx
import pytest
from chassis.identity import Role
from chassis.tables import new_id
from chassis.testing import Delivered, bearer, logged
from contracts.payments import PaymentRefunded, PaymentSucceeded
from payments.domain import payment_id_of

STAFF = Role.STAFF


def key(value: str | None = None) -> dict[str, str]:
    return {"Idempotency-Key": value or str(uuid4())}


@pytest.fixture
async def paid(deliver: Delivered, desk: Any, order: Any) -> Any:
    """An order that has been paid, 100 in all."""
    return await _settled(deliver, desk, order(total=100))


@pytest.fixture
async def waiting(deliver: Delivered, desk: Any, order: Any) -> Any:
    """An order whose payment waits for the customer."""
    return await _settled(deliver, desk, order("pm_card_requires_action"))


async def _settled(deliver: Delivered, desk: Any, it: Any) -> Any:
    await deliver(it.created())
    await deliver(it.reserved())
    await desk.settle()
    it.payment_id = (await desk.payment_of(it.id)).id
    it.url = f"/payments/{it.payment_id}"
    return it


async def test_the_owner_sees_the_payment(client: httpx.AsyncClient, paid: Any) -> None:
    reply = await client.get(paid.url, headers=bearer(paid.user_id))

    assert reply.status_code == 200
    shown = reply.json()
    assert (
        shown.items()
        >= {
            "id": str(paid.payment_id),
            "order_id": str(paid.id),
            "user_id": str(paid.user_id),
            "status": "succeeded",
            "amount": 100,
            "currency": "EUR",
            "refunded": 0,
            "failure_reason": None,
            "client_secret": None,
            "refunds": [],
        }.items()
    )


async def test_someone_elses_payment_is_not_found(client: httpx.AsyncClient, waiting: Any) -> None:
    stranger = bearer(uuid4())
    replies = [
        await client.get(waiting.url, headers=stranger),
        await client.post(f"{waiting.url}/confirm", headers=stranger | key()),
        await client.get(f"/payments/{uuid4()}", headers=stranger),
    ]

    assert [reply.status_code for reply in replies] == [404, 404, 404]
    assert replies[0].json()["type"] == "urn:waybill:problem:payment-not-found"


async def test_the_client_secret_is_for_the_owner_alone(
    client: httpx.AsyncClient, desk: Any, waiting: Any
) -> None:
    owner, staff = bearer(waiting.user_id), bearer(uuid4(), STAFF)
    secret = (await desk.payment_of(waiting.id)).client_secret

    assert (await client.get(waiting.url, headers=owner)).json()["client_secret"] == secret
    assert (await client.get(waiting.url, headers=staff)).json()["client_secret"] is None
    for caller in (owner, staff):
        assert secret not in (await client.get("/payments", headers=caller)).text


async def test_a_list_shows_what_the_caller_may_see(
    client: httpx.AsyncClient, paid: Any, waiting: Any
) -> None:
    async def listed(headers: dict[str, str], query: str = "") -> list[str]:
        reply = await client.get(f"/payments{query}", headers=headers)
        assert reply.json()["total"] == len(reply.json()["items"])
        return [payment["order_id"] for payment in reply.json()["items"]]

    own, staff = bearer(paid.user_id), bearer(uuid4(), STAFF)
    assert await listed(own) == [str(paid.id)]
    assert await listed(own, f"?order_id={waiting.id}") == []
    assert set(await listed(staff)) == {str(paid.id), str(waiting.id)}
    assert await listed(staff, f"?order_id={waiting.id}") == [str(waiting.id)]


async def test_a_list_comes_in_pages(client: httpx.AsyncClient, paid: Any, waiting: Any) -> None:
    staff = bearer(uuid4(), STAFF)
    page = (await client.get("/payments?page=2&page_size=1", headers=staff)).json()

    assert (page["page"], page["page_size"], page["total"]) == (2, 1, 2)
    assert [payment["order_id"] for payment in page["items"]] == [str(paid.id)]


async def test_what_waits_for_its_order_is_nobodys_payment_yet(
    client: httpx.AsyncClient, deliver: Delivered, desk: Any, order: Any
) -> None:
    it = order()
    await deliver(it.cancelled())
    payment = await desk.payment_of(it.id)
    staff = bearer(uuid4(), STAFF)

    assert (await client.get("/payments", headers=staff)).json()["items"] == []
    assert (await client.get(f"/payments/{payment.id}", headers=staff)).status_code == 404


@pytest.mark.parametrize("query", ["page=0", "page_size=101", "page=x", "order_id=7"])
async def test_a_bad_query_names_the_field(client: httpx.AsyncClient, query: str) -> None:
    reply = await client.get(f"/payments?{query}", headers=bearer(uuid4()))

    assert reply.status_code == 422
    assert reply.json()["errors"][0]["field"] == query.partition("=")[0]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/payments"),
        ("GET", f"/payments/{UUID(int=1)}"),
        ("POST", f"/payments/{UUID(int=1)}/confirm"),
        ("POST", f"/payments/{UUID(int=1)}/refunds"),
    ],
)
async def test_nothing_is_told_to_a_caller_without_a_token(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    assert (await client.request(method, path)).status_code == 401


async def test_a_confirmed_payment_succeeds(
    client: httpx.AsyncClient, desk: Any, provider: Any, waiting: Any
) -> None:
    owner = bearer(waiting.user_id)
    reply = await client.post(f"{waiting.url}/confirm", headers=owner | key())
    assert (reply.status_code, reply.json()["status"]) == (202, "processing")
    await desk.settle()

    assert (await client.get(waiting.url, headers=owner)).json()["status"] == "succeeded"
    assert len(provider.charges(waiting.id)) == 1
    assert len(await logged(PaymentSucceeded)) == 1


async def test_a_repeated_confirmation_is_one_confirmation(
    client: httpx.AsyncClient, desk: Any, provider: Any, waiting: Any
) -> None:
    headers = bearer(waiting.user_id) | key()
    first = await client.post(f"{waiting.url}/confirm", headers=headers)
    second = await client.post(f"{waiting.url}/confirm", headers=headers)
    await desk.settle()
    third = await client.post(f"{waiting.url}/confirm", headers=headers)

    assert first.json() == second.json() == third.json()
    confirmations = [path for _, path in provider.calls if path.endswith("/confirm")]
    assert len(confirmations) == 1


@pytest.mark.parametrize("trouble", ["request lost", "answer lost", "crash", 409, 500])
async def test_a_confirmation_of_unknown_outcome_is_asked_for_until_it_is_known(
    client: httpx.AsyncClient, desk: Any, provider: Any, waiting: Any, trouble: int | str
) -> None:
    await client.post(f"{waiting.url}/confirm", headers=bearer(waiting.user_id) | key())
    provider.faults.append(trouble)
    await desk.settle_everything()

    assert len(provider.charges(waiting.id)) == 1
    payment = await desk.payment_of(waiting.id)
    assert [attempt.outcome for attempt in payment.attempts] == ["requires_action", "succeeded"]
    assert provider.keys[-1] == f"payment:{payment.id}:2"


async def test_a_confirmation_that_is_being_processed_is_looked_at_not_repeated(
    client: httpx.AsyncClient, desk: Any, provider: Any, reply_with: Any, waiting: Any
) -> None:
    await client.post(f"{waiting.url}/confirm", headers=bearer(waiting.user_id) | key())
    intent_id = (await desk.payment_of(waiting.id)).intent_id
    provider.calls.clear()
    provider.faults.append(reply_with(id=intent_id, status="processing"))
    await desk.settle()
    provider.faults.append(reply_with(id=intent_id, status="succeeded", amount_received=100))
    await desk.settle_everything()

    intent = f"v1/payment_intents/{intent_id}"
    assert provider.calls == [("POST", f"{intent}/confirm"), ("GET", intent)]
    assert (await desk.payment_of(waiting.id)).status == "succeeded"


async def test_a_confirmation_that_the_bank_answers_with_a_question_waits_again(
    client: httpx.AsyncClient, desk: Any, provider: Any, reply_with: Any, waiting: Any
) -> None:
    owner = bearer(waiting.user_id)
    payment = await desk.payment_of(waiting.id)
    for attempt in (2, 3):
        await client.post(f"{waiting.url}/confirm", headers=owner | key())
        asked = {"status": "requires_action", "client_secret": f"pi_secret_{attempt}"}
        provider.faults.append(reply_with(id=payment.intent_id, **asked))
        await desk.settle()

    shown = (await client.get(waiting.url, headers=owner)).json()
    assert (shown["status"], shown["client_secret"]) == ("requires_action", "pi_secret_3")


async def test_a_cancellation_overtakes_a_confirmation_that_was_not_made_yet(
    client: httpx.AsyncClient, deliver: Delivered, desk: Any, provider: Any, waiting: Any
) -> None:
    await client.post(f"{waiting.url}/confirm", headers=bearer(waiting.user_id) | key())
    await deliver(waiting.cancelled())
    await desk.settle()

    assert provider.charges(waiting.id) == []
    assert (await desk.payment_of(waiting.id)).status == "cancelled"


async def test_only_what_waits_for_the_customer_can_be_confirmed(
    client: httpx.AsyncClient, deliver: Delivered, paid: Any, waiting: Any
) -> None:
    await deliver(waiting.cancelled())
    for it in (paid, waiting):
        reply = await client.post(f"{it.url}/confirm", headers=bearer(it.user_id) | key())
        assert reply.status_code == 409
        assert reply.json()["type"] == "urn:waybill:problem:nothing-to-confirm"


async def test_staff_cannot_confirm_for_a_customer(client: httpx.AsyncClient, waiting: Any) -> None:
    headers = bearer(uuid4(), STAFF) | key()
    assert (await client.post(f"{waiting.url}/confirm", headers=headers)).status_code == 404


async def test_a_post_that_moves_money_needs_an_idempotency_key(
    client: httpx.AsyncClient, paid: Any, waiting: Any
) -> None:
    confirm = await client.post(f"{waiting.url}/confirm", headers=bearer(waiting.user_id))
    refund = await client.post(f"{paid.url}/refunds", json={}, headers=bearer(uuid4(), STAFF))

    assert [confirm.status_code, refund.status_code] == [400, 400]


async def test_staff_refund_in_parts(
    client: httpx.AsyncClient, desk: Any, provider: Any, paid: Any
) -> None:
    staff = bearer(uuid4(), STAFF)
    body = {"amount": 30, "reason": "scratched"}
    reply = await client.post(f"{paid.url}/refunds", json=body, headers=staff | key())
    assert reply.status_code == 201
    assert reply.json().items() >= {"status": "pending", **body}.items()
    await desk.settle()
    shown = (await client.get(paid.url, headers=staff)).json()
    assert (shown["status"], shown["refunded"]) == ("succeeded", 30)
    assert [refund["status"] for refund in shown["refunds"]] == ["succeeded"]

    await client.post(f"{paid.url}/refunds", json={}, headers=staff | key())
    await desk.settle()
    shown = (await client.get(paid.url, headers=staff)).json()
    assert (shown["status"], shown["refunded"]) == ("refunded", 100)
    assert provider.kept(paid.id) == 0
    events = await logged(PaymentRefunded)
    assert [(event.amount, event.refunded_total) for event in events] == [(30, 30), (70, 100)]


async def test_a_cancellation_gives_back_only_what_refunds_have_left(
    client: httpx.AsyncClient, deliver: Delivered, desk: Any, provider: Any, paid: Any
) -> None:
    staff = bearer(uuid4(), STAFF)
    await client.post(f"{paid.url}/refunds", json={"amount": 30}, headers=staff | key())
    await deliver(paid.cancelled())
    await desk.settle()

    assert provider.kept(paid.id) == 0
    assert [refund.amount for refund in await desk.refunds_of(paid.id)] == [30, 70]
    told = await logged(PaymentRefunded)
    await deliver(paid.cancelled())
    assert await logged(PaymentRefunded) == [*told, *told]


def _order_with_a_compensation_before_it(order: Any) -> Any:
    """By id: that of a compensation is made from the payment's, which tells nothing of time."""
    ids = iter(new_id, None)
    return order(
        total=100,
        id=next(i for i in ids if uuid5(payment_id_of(i), "compensation:1") < i),
    )


async def test_refunds_are_shown_and_told_again_in_the_order_they_were_made(
    client: httpx.AsyncClient, deliver: Delivered, desk: Any, order: Any
) -> None:
    paid = await _settled(deliver, desk, _order_with_a_compensation_before_it(order))
    staff = bearer(uuid4(), STAFF)
    await client.post(f"{paid.url}/refunds", json={"amount": 30}, headers=staff | key())
    await deliver(paid.cancelled())
    await desk.settle()

    shown = (await client.get(paid.url, headers=staff)).json()
    assert [refund["amount"] for refund in shown["refunds"]] == [30, 70]
    await deliver(paid.cancelled())
    told = [event.refunded_total for event in await logged(PaymentRefunded)]
    assert told == [30, 100, 30, 100]


async def test_customers_cannot_refund(client: httpx.AsyncClient, desk: Any, paid: Any) -> None:
    headers = bearer(paid.user_id) | key()
    reply = await client.post(f"{paid.url}/refunds", json={"amount": 1}, headers=headers)

    assert reply.status_code == 403
    assert await desk.refunds_of(paid.id) == []


@pytest.mark.parametrize("amount", [101, 10**12])
async def test_no_more_than_was_paid_is_refunded(
    client: httpx.AsyncClient, desk: Any, paid: Any, amount: int
) -> None:
    headers = bearer(uuid4(), STAFF) | key()
    reply = await client.post(f"{paid.url}/refunds", json={"amount": amount}, headers=headers)

    assert reply.status_code == 409
    assert reply.json()["refundable"] == 100
    assert await desk.refunds_of(paid.id) == []


async def test_what_was_not_paid_cannot_be_refunded(
    client: httpx.AsyncClient, waiting: Any
) -> None:
    headers = bearer(uuid4(), STAFF) | key()
    reply = await client.post(f"{waiting.url}/refunds", json={}, headers=headers)

    assert reply.status_code == 409


async def test_a_repeated_refund_request_is_one_refund(
    client: httpx.AsyncClient, desk: Any, provider: Any, paid: Any
) -> None:
    headers = bearer(uuid4(), STAFF) | key()
    replies = [
        await client.post(f"{paid.url}/refunds", json={"amount": 40}, headers=headers)
        for _ in range(3)
    ]
    await desk.settle()
    other = await client.post(f"{paid.url}/refunds", json={"amount": 41}, headers=headers)

    assert len({reply.json()["id"] for reply in replies}) == 1
    assert provider.kept(paid.id) == 60
    assert other.status_code == 422


async def test_the_key_of_one_payments_refund_does_not_fit_another(
    client: httpx.AsyncClient, paid: Any, waiting: Any
) -> None:
    headers = bearer(uuid4(), STAFF) | key()
    await client.post(f"{paid.url}/refunds", json={}, headers=headers)
    reply = await client.post(f"{waiting.url}/refunds", json={}, headers=headers)

    assert reply.status_code == 422


async def test_a_refund_of_an_unknown_payment_is_not_found(client: httpx.AsyncClient) -> None:
    headers = bearer(uuid4(), STAFF) | key()
    reply = await client.post(f"/payments/{uuid4()}/refunds", json={}, headers=headers)

    assert reply.status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"amount": 0}, "amount"),
        ({"amount": -1}, "amount"),
        ({"amount": 1.5}, "amount"),
        ({"amount": "1"}, "amount"),
        ({"amount": 10**13}, "amount"),
        ({"reason": ""}, "reason"),
        ({"reason": "x" * 501}, "reason"),
    ],
)
async def test_a_bad_refund_names_the_field(
    client: httpx.AsyncClient, desk: Any, paid: Any, body: dict[str, Any], field: str
) -> None:
    headers = bearer(uuid4(), STAFF) | key()
    reply = await client.post(f"{paid.url}/refunds", json=body, headers=headers)

    assert reply.status_code == 422
    assert reply.json()["errors"][0]["field"] == field
    assert await desk.refunds_of(paid.id) == []
