"""Money goes back to the card, and never more of it than came."""

from collections.abc import Awaitable, Callable

import httpx

Charge = Callable[..., Awaitable[httpx.Response]]


async def test_whole_charge_is_refunded_by_default(
    client: httpx.AsyncClient, charge: Charge
) -> None:
    intent = (await charge()).json()

    refund = await client.post("/v1/refunds", data={"payment_intent": intent["id"]})

    assert refund.status_code == 200
    assert refund.json()["object"] == "refund"
    assert (refund.json()["amount"], refund.json()["status"]) == (1250, "succeeded")
    [refunded] = (await client.get("/v1/charges")).json()["data"]
    assert (refunded["refunded"], refunded["amount_refunded"]) == (True, 1250)
    assert (await client.get(f"/v1/refunds/{refund.json()['id']}")).json() == refund.json()


async def test_refunds_never_exceed_the_charge(client: httpx.AsyncClient, charge: Charge) -> None:
    intent = (await charge()).json()

    async def refund(**amount: str) -> httpx.Response:
        return await client.post("/v1/refunds", data={"payment_intent": intent["id"], **amount})

    assert (await refund(amount="1251")).json()["error"]["param"] == "amount"
    assert (await refund(amount="1000")).status_code == 200
    assert (await refund(amount="251")).json()["error"]["param"] == "amount"
    assert (await refund()).json()["amount"] == 250
    assert (await refund()).json()["error"]["code"] == "charge_already_refunded"
    params = {"payment_intent": intent["id"]}
    refunds = (await client.get("/v1/refunds", params=params)).json()["data"]
    assert [item["amount"] for item in refunds] == [250, 1000]


async def test_repeated_refund_gives_back_once(client: httpx.AsyncClient, charge: Charge) -> None:
    intent = (await charge()).json()
    form = {"payment_intent": intent["id"], "amount": "500"}

    answers = [
        await client.post("/v1/refunds", data=form, headers={"Idempotency-Key": "r1"})
        for _ in range(2)
    ]

    assert answers[0].json() == answers[1].json()
    [refunded] = (await client.get("/v1/charges")).json()["data"]
    assert refunded["amount_refunded"] == 500


async def test_what_was_never_paid_cannot_be_refunded(
    client: httpx.AsyncClient, charge: Charge
) -> None:
    declined = (await charge("pm_card_declined")).json()["error"]["payment_intent"]

    unpaid = await client.post("/v1/refunds", data={"payment_intent": declined["id"]})
    unknown = await client.post("/v1/refunds", data={"payment_intent": "pi_none"})

    assert unpaid.status_code == 400
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (400, "resource_missing")


async def test_lists_are_narrowed_to_an_intent(client: httpx.AsyncClient, charge: Charge) -> None:
    first, second = (await charge()).json(), (await charge()).json()
    for intent in (first, second):
        await client.post("/v1/refunds", data={"payment_intent": intent["id"]})

    for path in ("charges", "refunds"):
        everything = (await client.get(f"/v1/{path}")).json()["data"]
        params = {"payment_intent": first["id"]}
        narrowed = (await client.get(f"/v1/{path}", params=params)).json()["data"]
        assert [item["payment_intent"] for item in everything] == [second["id"], first["id"]]
        assert [item["payment_intent"] for item in narrowed] == [first["id"]]


async def test_cursor_must_be_known(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/charges", params={"starting_after": "ch_none"})

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "starting_after")
