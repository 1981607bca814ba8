"""The provider as a process: driven by Stripe's own library, and killed."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest
import pytest_asyncio
import stripe

API_KEY = "sk_test_4eC39HqLyjWDarjtT1zdp7dc"
CHARGE: Any = {
    "amount": 1250,
    "currency": "eur",
    "confirm": True,
    "payment_method": "pm_card_ok",
    "metadata": {"order_id": "order-1"},
}


@pytest_asyncio.fixture
async def client(provider_process: Any) -> AsyncGenerator[stripe.StripeClient]:
    transport = stripe.AIOHTTPClient(timeout=10)
    yield stripe.StripeClient(
        API_KEY, base_addresses={"api": provider_process.url}, http_client=transport
    )
    await transport.close_async()


async def test_stripes_library_charges_and_refunds(client: stripe.StripeClient) -> None:
    intent = await client.v1.payment_intents.create_async(CHARGE)
    refund = await client.v1.refunds.create_async({"payment_intent": intent.id, "amount": 250})
    charges = await client.v1.charges.list_async({"payment_intent": intent.id})
    query = "metadata['order_id']:'order-1'"
    found = await client.v1.payment_intents.search_async({"query": query})

    assert (intent.status, intent.metadata["order_id"]) == ("succeeded", "order-1")
    assert (refund.status, refund.amount) == ("succeeded", 250)
    assert [charge.amount_refunded for charge in charges.data] == [250]
    assert [item.id for item in found.data] == [intent.id]


async def test_stripes_library_walks_a_list_to_its_end(client: stripe.StripeClient) -> None:
    created = [
        (await client.v1.payment_intents.create_async({"amount": 100, "currency": "eur"})).id
        for _ in range(5)
    ]

    listed = await client.v1.payment_intents.list_async({"limit": 2})

    assert [intent.id async for intent in listed.auto_paging_iter()] == created[::-1]


async def test_stripes_library_raises_its_own_errors(client: stripe.StripeClient) -> None:
    async def create(changes: Any, options: Any = None) -> None:
        await client.v1.payment_intents.create_async(CHARGE | changes, options)

    with pytest.raises(stripe.CardError) as declined:
        await create({"payment_method": "pm_card_declined"})
    with pytest.raises(stripe.InvalidRequestError) as unknown:
        await create({"payment_method": "pm_card_unheard_of"})
    await create({}, {"idempotency_key": "k1"})
    with pytest.raises(stripe.IdempotencyError):
        await create({"amount": 1}, {"idempotency_key": "k1"})
    with pytest.raises(stripe.AuthenticationError):
        await create({}, {"api_key": "sk_test_wrong"})

    assert declined.value.code == "card_declined"
    refusal: Any = declined.value.error
    assert refusal.decline_code == "generic_decline"
    assert refusal.payment_intent.status == "requires_payment_method"
    assert unknown.value.code == "resource_missing"


async def test_stripes_library_accepts_the_webhooks(
    client: stripe.StripeClient, receiver: Any
) -> None:
    intent = await client.v1.payment_intents.create_async(CHARGE)

    delivery = await receiver.next()

    event = stripe.Webhook.construct_event(
        delivery.payload, delivery.signature, "whsec_of_these_tests"
    )
    assert event.type == "payment_intent.succeeded"
    assert event.data.object["id"] == intent.id
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(
            delivery.payload + b" ", delivery.signature, "whsec_of_these_tests"
        )


async def test_acknowledged_charge_survives_kill_9(provider_process: Any) -> None:
    headers = {"Authorization": f"Bearer {API_KEY}"}
    form = {
        "amount": "900",
        "currency": "eur",
        "confirm": "true",
        "payment_method": "pm_card_ok",
    }
    async with httpx.AsyncClient(base_url=provider_process.url, headers=headers) as client:

        async def pay(number: int) -> httpx.Response:
            key = {"Idempotency-Key": f"k{number}"}
            return await client.post("/v1/payment_intents", data=form, headers=key)

        before = await asyncio.gather(*(pay(number) for number in range(20)))
        await provider_process.end(asyncio.subprocess.Process.kill)
        await provider_process.start()
        after = await asyncio.gather(*(pay(number) for number in range(20)))
        charges = await client.get("/v1/charges", params={"limit": 100})

    assert [answer.json() for answer in after] == [answer.json() for answer in before]
    assert {answer.headers["Idempotent-Replayed"] for answer in after} == {"true"}
    assert len(charges.json()["data"]) == 20


async def test_hanging_client_does_not_hold_up_the_end(
    provider_process: Any, receiver: Any
) -> None:
    headers = {"Authorization": f"Bearer {API_KEY}"}
    form = {
        "amount": "900",
        "currency": "eur",
        "confirm": "true",
        "payment_method": "pm_card_timeout",
    }
    async with httpx.AsyncClient(base_url=provider_process.url, headers=headers) as client:
        hanging = asyncio.create_task(client.post("/v1/payment_intents", data=form, timeout=60))
        await receiver.next()  # the charge is made, its answer is not given
        async with asyncio.timeout(10):
            await provider_process.end(asyncio.subprocess.Process.terminate)
        with pytest.raises(httpx.HTTPError):
            (await hanging).raise_for_status()
