"""Real concurrency on a real database: workers, requests, batches and webhooks at the same time."""

import asyncio
import random
from collections.abc import Sequence
from itertools import chain
from typing import Any
from uuid import uuid4

import httpx
import pytest
from chassis.identity import Role
from chassis.testing import Delivered, as_entry, bearer, logged
from contracts import Event
from contracts.payments import PaymentRefunded, PaymentSucceeded
from fastapi import FastAPI
from payments import settlement
from payments.app import app as payments_app
from payments.slots import Slots
from payments.webhooks import signature_verifier

SECRET = "whsec_of_the_tests"


@pytest.fixture
def app(concurrent_db: object, provider: object) -> FastAPI:
    signature_verifier.trust(SECRET)
    return payments_app


def _entries(events: Sequence[Event]) -> list[dict[str, Any]]:
    return [as_entry(event.topic, event.model_dump(mode="json")) for event in events]


async def _work(desk: Any) -> None:
    """Both workers, with all their slots, until nothing is due."""
    workers = [Slots(10, settlement.claim_payments), Slots(3, settlement.claim_refunds)]
    started = True
    while started:
        started = any([await worker.fill() for worker in workers])
        for worker in workers:
            await worker.finish()
    await desk.settle_everything()


async def test_concurrent_refunds_never_exceed_what_was_paid(
    client: httpx.AsyncClient, deliver: Delivered, desk: Any, provider: Any, order: Any
) -> None:
    it = order(total=100)
    await deliver(it.created())
    await deliver(it.reserved())
    await desk.settle()
    url = f"/payments/{(await desk.payment_of(it.id)).id}/refunds"
    staff = bearer(uuid4(), Role.STAFF)

    async def refund(number: int) -> int:
        headers = staff | {"Idempotency-Key": str(number)}
        return (await client.post(url, json={"amount": 30}, headers=headers)).status_code

    statuses = await asyncio.gather(*(refund(number) for number in range(12)))
    await _work(desk)

    assert sorted(statuses) == [201] * 3 + [409] * 9
    assert provider.kept(it.id) == 10
    assert [event.refunded_total for event in await logged(PaymentRefunded)] == [30, 60, 90]


async def test_concurrent_repeats_of_a_refund_request_are_one_refund(
    client: httpx.AsyncClient, deliver: Delivered, desk: Any, order: Any
) -> None:
    it = order(total=100)
    await deliver(it.created())
    await deliver(it.reserved())
    await desk.settle()
    url = f"/payments/{(await desk.payment_of(it.id)).id}/refunds"
    headers = bearer(uuid4(), Role.STAFF) | {"Idempotency-Key": "1"}
    replies = await asyncio.gather(
        *(client.post(url, json={"amount": 30}, headers=headers) for _ in range(5))
    )

    assert {reply.status_code for reply in replies} == {201}
    assert len({reply.json()["id"] for reply in replies}) == 1
    assert len(await desk.refunds_of(it.id)) == 1


async def test_no_two_workers_take_the_same_payment(
    deliver: Delivered, desk: Any, provider: Any, order: Any
) -> None:
    orders = [order() for _ in range(40)]
    await deliver(*(it.created() for it in orders))
    await deliver(*(it.reserved() for it in orders))
    claims = await asyncio.gather(*(settlement.claim_payments(10) for _ in range(8)))
    await asyncio.gather(*(job() for job in chain.from_iterable(claims)))

    assert len(provider.calls) == 40
    assert all(len(provider.charges(it.id)) == 1 for it in orders)


async def test_a_webhook_that_comes_many_times_at_once_takes_effect_once(
    deliver: Delivered, desk: Any, provider: Any, order: Any, hear: Any
) -> None:
    it = order()
    await deliver(it.created())
    await deliver(it.reserved())
    provider.faults.append("answer lost")
    await desk.settle()
    [webhook] = provider.webhooks()
    replies = await asyncio.gather(*(hear(webhook) for _ in range(8)))

    assert {reply.status_code for reply in replies} == {200}
    assert len(await logged(PaymentSucceeded)) == 1


async def test_batches_workers_and_webhooks_at_the_same_time_agree_in_the_end(
    deliver: Delivered, desk: Any, provider: Any, order: Any, hear: Any
) -> None:
    methods = ["pm_card_ok", "pm_card_declined", "pm_card_requires_action"]
    orders = [order(methods[number % 3]) for number in range(60)]
    cancelled = orders[::2]
    batches = [
        *(("order.created", [it.created() for it in orders]) for _ in range(2)),
        *(("stock.reserved", [it.reserved() for it in orders]) for _ in range(2)),
        *(("order.cancelled", [it.cancelled() for it in cancelled]) for _ in range(2)),
    ]
    for _, events in batches:
        random.shuffle(events)

    async def listen() -> None:
        for webhook in provider.webhooks():
            await hear(webhook)

    statuses = await asyncio.gather(
        *(deliver.raw(topic, _entries(events)) for topic, events in batches)
    )
    await asyncio.gather(_work(desk), listen(), listen())
    await listen()
    await _work(desk)

    assert set(chain.from_iterable(statuses)) == {"SUCCESS"}
    assert all(provider.kept(it.id) == 0 for it in cancelled)
    for it in orders[1::2]:
        paid = it.payment_method == "pm_card_ok"
        assert provider.kept(it.id) == (it.total if paid else 0)
        assert len(provider.charges(it.id)) == paid
