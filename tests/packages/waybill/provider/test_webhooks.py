"""The merchant hears of everything that happened: signed, and until it has accepted it."""

import asyncio
import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from waybill.provider import webhooks

Charge = Callable[..., Awaitable[httpx.Response]]


async def nothing_pending(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(10):
        while (await client.get("/health")).json()["pending_webhooks"]:  # noqa: ASYNC110  # it has only HTTP
            await asyncio.sleep(0.01)


async def test_signature_can_be_checked_by_the_documented_algorithm(
    receiver: Any, charge: Charge
) -> None:
    intent = (await charge()).json()

    delivery = await receiver.next()

    parts = dict(part.split("=") for part in delivery.signature.split(","))
    signed = parts["t"].encode() + b"." + delivery.payload
    expected = hmac.new(b"whsec_of_these_tests", signed, hashlib.sha256).hexdigest()
    assert parts["v1"] == expected
    assert abs(time.time() - int(parts["t"])) < 60
    event = delivery.event
    assert (event["object"], event["type"]) == ("event", "payment_intent.succeeded")
    assert event["id"].startswith("evt_")
    assert event["data"]["object"] == intent


async def test_each_outcome_has_its_event(
    client: httpx.AsyncClient, receiver: Any, charge: Charge
) -> None:
    paid = (await charge()).json()
    await charge("pm_card_declined")
    waiting = (await charge("pm_card_requires_action")).json()
    await client.post(f"/v1/payment_intents/{waiting['id']}/cancel")
    await client.post("/v1/refunds", data={"payment_intent": paid["id"]})

    events = [(await receiver.next()).event for _ in range(6)]

    shown = {event["type"]: event["data"]["object"] for event in events}
    assert set(shown) == {
        "payment_intent.succeeded",
        "payment_intent.payment_failed",
        "payment_intent.requires_action",
        "payment_intent.canceled",
        "refund.created",
        "charge.refunded",
    }
    assert shown["payment_intent.payment_failed"]["last_payment_error"]["code"] == "card_declined"
    assert shown["payment_intent.requires_action"]["status"] == "requires_action"
    assert shown["charge.refunded"]["amount_refunded"] == 1250
    assert shown["refund.created"]["payment_intent"] == paid["id"]


async def test_confirming_again_what_awaits_approval_is_no_news(
    client: httpx.AsyncClient, receiver: Any, charge: Charge
) -> None:
    waiting = (await charge("pm_card_requires_action")).json()
    await client.post(f"/v1/payment_intents/{waiting['id']}/confirm")
    await client.post(f"/v1/payment_intents/{waiting['id']}/cancel")

    types = [(await receiver.next()).event["type"] for _ in range(2)]

    assert sorted(types) == ["payment_intent.canceled", "payment_intent.requires_action"]


async def test_refused_webhook_is_delivered_again(
    client: httpx.AsyncClient, receiver: Any, charge: Charge
) -> None:
    receiver.statuses = [500, 302, 404]
    await charge()

    deliveries = [await receiver.next() for _ in range(4)]

    assert len({delivery.event["id"] for delivery in deliveries}) == 1
    await nothing_pending(client)
    assert receiver.deliveries.empty()


async def test_undelivered_webhook_outlives_the_provider(
    start_provider: Any, receiver: Any
) -> None:
    charge = {
        "amount": "900",
        "currency": "eur",
        "confirm": "true",
        "payment_method": "pm_card_ok",
    }
    async with start_provider(webhook_url="http://127.0.0.1:1/nobody") as client:
        intent = (await client.post("/v1/payment_intents", data=charge)).json()
        assert (await client.get("/health")).json() == {"status": "ok", "pending_webhooks": 1}

    async with start_provider(webhook_backoff_max=0.01):
        delivery = await receiver.next()

    assert delivery.event["data"]["object"]["id"] == intent["id"]


async def test_webhook_nobody_takes_is_given_up_in_the_end(
    start_provider: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "GIVE_UP_AFTER", 0)
    intent = {"amount": "900", "currency": "eur", "payment_method": "pm_card_ok"}

    async with start_provider(webhook_url="http://127.0.0.1:1/nobody") as client:
        await client.post("/v1/payment_intents", data=intent | {"confirm": "true"})
        await nothing_pending(client)


async def test_more_events_than_places_are_all_delivered(
    start_provider: Any, receiver: Any
) -> None:
    intent = {"amount": "900", "currency": "eur", "payment_method": "pm_card_ok"}
    async with start_provider(webhook_concurrency=2) as client:
        for _ in range(20):
            await client.post("/v1/payment_intents", data=intent | {"confirm": "true"})
        events = [(await receiver.next()).event["id"] for _ in range(20)]

    assert len(set(events)) == 20
