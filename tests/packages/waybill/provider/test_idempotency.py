"""A request that is sent again has its effect once and its answer again."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

Charge = Callable[..., Awaitable[httpx.Response]]
CHARGE_BY_A_HANGING_CARD = {
    "amount": "900",
    "currency": "eur",
    "confirm": "true",
    "payment_method": "pm_card_timeout",
}


async def charges(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    return (await client.get("/v1/charges")).json()["data"]


async def test_repeat_is_answered_with_the_stored_response(
    client: httpx.AsyncClient, charge: Charge
) -> None:
    first = await charge(key="k1")
    second = await charge(key="k1")

    assert second.content == first.content
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert len(await charges(client)) == 1


async def test_decline_is_replayed_rather_than_tried_again(
    client: httpx.AsyncClient, charge: Charge
) -> None:
    first = await charge("pm_card_declined", key="k1")
    second = await charge("pm_card_declined", key="k1")

    assert first.status_code == second.status_code == 402
    assert second.json() == first.json()
    assert len(await charges(client)) == 1


async def test_key_cannot_be_reused_for_another_request(
    client: httpx.AsyncClient, charge: Charge
) -> None:
    intent = (await charge(key="k1")).json()

    other_parameters = await charge("pm_card_declined", key="k1")
    other_path = await client.post(
        f"/v1/payment_intents/{intent['id']}/cancel", headers={"Idempotency-Key": "k1"}
    )

    for answer in (other_parameters, other_path):
        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "idempotency_error"
    assert len(await charges(client)) == 1


async def test_refused_request_does_not_use_up_its_key(charge: Charge) -> None:
    assert (await charge("pm_card_unheard_of", key="k1")).status_code == 400

    assert (await charge("pm_card_ok", key="k1")).status_code == 200


async def test_key_has_a_bounded_length(charge: Charge) -> None:
    assert (await charge(key="k" * 256)).status_code == 400


async def test_same_key_at_the_same_time_charges_once(
    client: httpx.AsyncClient, charge: Charge
) -> None:
    answers = await asyncio.gather(*(charge(key="k1") for _ in range(5)))

    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert refused.json()["error"]["code"] == "idempotency_key_in_use"
    assert len(await charges(client)) == 1


async def test_withheld_answer_leaves_one_charge_and_is_there_afterwards(
    start_provider: Any, receiver: Any
) -> None:
    async with start_provider(hang=60) as client:

        async def pay() -> httpx.Response:
            return await client.post(
                "/v1/payment_intents",
                data=CHARGE_BY_A_HANGING_CARD,
                headers={"Idempotency-Key": "k1"},
            )

        waiting = asyncio.create_task(pay())
        event = (await receiver.next()).event
        meanwhile = await pay()
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])
        afterwards = await pay()

        assert event["type"] == "payment_intent.succeeded"
        assert meanwhile.status_code == 409
        assert afterwards.headers["Idempotent-Replayed"] == "true"
        assert afterwards.json()["id"] == event["data"]["object"]["id"]
        assert len(await charges(client)) == 1


async def test_withheld_answer_is_given_in_the_end(start_provider: Any) -> None:
    async with start_provider(hang=0.01) as client:
        answer = await client.post("/v1/payment_intents", data=CHARGE_BY_A_HANGING_CARD)

        assert answer.json()["status"] == "succeeded"


async def test_injected_failure_does_nothing_and_may_be_tried_again(start_provider: Any) -> None:
    request = {
        "data": {"amount": "900", "currency": "eur"},
        "headers": {"Idempotency-Key": "k1"},
    }
    async with start_provider(failure_rate=1) as client:
        failed = await client.post("/v1/payment_intents", **request)
        assert (await client.get("/v1/payment_intents")).json()["data"] == []
    async with start_provider() as client:
        again = await client.post("/v1/payment_intents", **request)

    assert (failed.status_code, failed.json()["error"]["type"]) == (500, "api_error")
    assert again.status_code == 200
