"""What a client written for Stripe sees when it creates, confirms and cancels payment intents."""

import base64
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

Charge = Callable[..., Awaitable[httpx.Response]]
FORM = "application/x-www-form-urlencoded"


async def paid_charges(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    listed = await client.get("/v1/charges", params={"limit": 100})
    return [charge for charge in listed.json()["data"] if charge["paid"]]


async def test_good_card_is_charged_at_once(client: httpx.AsyncClient, charge: Charge) -> None:
    answer = await charge()

    assert answer.status_code == 200
    intent = answer.json()
    assert intent["object"] == "payment_intent"
    assert intent["id"].startswith("pi_")
    assert (intent["status"], intent["amount_received"]) == ("succeeded", 1250)
    assert intent["metadata"] == {"order_id": "order-1"}
    [taken] = await paid_charges(client)
    assert taken["id"] == intent["latest_charge"]
    assert taken["metadata"] == {"order_id": "order-1"}


async def test_declined_card_answers_402_with_the_intent_inside(
    client: httpx.AsyncClient, charge: Charge
) -> None:
    answer = await charge("pm_card_declined")

    assert answer.status_code == 402
    error = answer.json()["error"]
    assert error["type"] == "card_error"
    assert (error["code"], error["decline_code"]) == ("card_declined", "generic_decline")
    assert error["payment_intent"]["status"] == "requires_payment_method"
    assert await paid_charges(client) == []


async def test_declined_intent_can_be_paid_with_another_card(
    client: httpx.AsyncClient, charge: Charge
) -> None:
    intent = (await charge("pm_card_declined")).json()["error"]["payment_intent"]

    answer = await client.post(
        f"/v1/payment_intents/{intent['id']}/confirm", data={"payment_method": "pm_card_ok"}
    )

    assert answer.json()["status"] == "succeeded"
    assert answer.json()["last_payment_error"] is None
    assert len(await paid_charges(client)) == 1


async def test_client_secret_confirms_a_payment_that_requires_action(
    client: httpx.AsyncClient, charge: Charge
) -> None:
    intent = (await charge("pm_card_requires_action")).json()
    assert intent["status"] == "requires_action"
    assert intent["next_action"]["type"] == "redirect_to_url"
    confirm = f"/v1/payment_intents/{intent['id']}/confirm"

    without_secret = await client.post(confirm)
    wrong_secret = await client.post(confirm, data={"client_secret": "guessed"})
    assert without_secret.json()["status"] == "requires_action"
    assert wrong_secret.status_code == 400
    assert await paid_charges(client) == []

    answer = await client.post(confirm, data={"client_secret": intent["client_secret"]})
    assert answer.json()["status"] == "succeeded"
    assert len(await paid_charges(client)) == 1


async def test_client_secret_does_not_approve_another_card(
    client: httpx.AsyncClient, charge: Charge
) -> None:
    intent = (await charge("pm_card_requires_action")).json()

    answer = await client.post(
        f"/v1/payment_intents/{intent['id']}/confirm",
        data={
            "client_secret": intent["client_secret"],
            "payment_method": "pm_card_requires_action",
        },
    )

    assert answer.json()["status"] == "requires_action"


@pytest.mark.parametrize(
    ("decision", "status"),
    [("approve", "succeeded"), ("reject", "requires_payment_method")],
)
async def test_customer_decides_on_the_approval_page(
    client: httpx.AsyncClient, charge: Charge, decision: str, status: str
) -> None:
    intent = (await charge("pm_card_requires_action")).json()
    address: str = intent["next_action"]["redirect_to_url"]["url"]
    url = urlsplit(address)
    authorization = client.headers.pop("Authorization")

    page = await client.get(f"{url.path}?{url.query}")
    assert "12.50 EUR" in page.text
    assert "<button" in page.text
    form = {"client_secret": parse_qs(url.query)["client_secret"][0], "decision": decision}
    decided = await client.post(url.path, data=form)
    again = await client.post(url.path, data=form)

    assert decided.status_code == again.status_code == 200
    assert "Nothing is waiting" in again.text
    assert "<button" not in (await client.get(f"{url.path}?{url.query}")).text
    client.headers["Authorization"] = authorization
    shown = await client.get(f"/v1/payment_intents/{intent['id']}")
    assert shown.json()["status"] == status
    assert len(await paid_charges(client)) == (1 if decision == "approve" else 0)


async def test_approval_page_returns_the_customer_to_the_shop(client: httpx.AsyncClient) -> None:
    intent = (
        await client.post(
            "/v1/payment_intents",
            data={
                "amount": "700",
                "currency": "jpy",
                "confirm": "true",
                "payment_method": "pm_card_requires_action",
                "return_url": "https://shop.example/done?a=1",
            },
        )
    ).json()
    page = f"/approve/{intent['id']}"
    secret = {"client_secret": intent["client_secret"]}

    assert "700 JPY" in (await client.get(page, params=secret)).text
    decided = await client.post(page, data={**secret, "decision": "approve"})

    assert decided.status_code == 303
    assert decided.headers["Location"].startswith("https://shop.example/done?a=1&payment_intent=")
    assert decided.headers["Location"].endswith("redirect_status=succeeded")


async def test_approval_page_is_hidden_from_who_lacks_the_secret(
    client: httpx.AsyncClient, charge: Charge
) -> None:
    intent = (await charge("pm_card_requires_action")).json()

    page = await client.get(f"/approve/{intent['id']}", params={"client_secret": "guessed"})

    assert page.status_code == 404


async def test_intent_is_created_first_and_confirmed_later(client: httpx.AsyncClient) -> None:
    created = await client.post(
        "/v1/payment_intents",
        data={"amount": "500", "currency": "EUR", "payment_method": "pm_card_ok"},
    )
    assert created.json()["status"] == "requires_confirmation"
    assert created.json()["currency"] == "eur"

    confirmed = await client.post(f"/v1/payment_intents/{created.json()['id']}/confirm")

    assert confirmed.json()["status"] == "succeeded"


async def test_intent_without_a_card_cannot_be_confirmed(client: httpx.AsyncClient) -> None:
    created = await client.post("/v1/payment_intents", data={"amount": "500", "currency": "eur"})
    assert created.json()["status"] == "requires_payment_method"

    confirmed = await client.post(f"/v1/payment_intents/{created.json()['id']}/confirm")

    assert confirmed.status_code == 400
    assert confirmed.json()["error"]["code"] == "payment_intent_unexpected_state"


async def test_cancelled_intent_can_no_longer_be_paid(
    client: httpx.AsyncClient, charge: Charge
) -> None:
    intent = (await charge("pm_card_requires_action")).json()
    path = f"/v1/payment_intents/{intent['id']}"

    cancelled = await client.post(f"{path}/cancel", data={"cancellation_reason": "abandoned"})
    confirmed = await client.post(
        f"{path}/confirm", data={"client_secret": intent["client_secret"]}
    )

    assert cancelled.json()["status"] == "canceled"
    assert cancelled.json()["cancellation_reason"] == "abandoned"
    assert confirmed.status_code == 400
    assert confirmed.json()["error"]["payment_intent"]["status"] == "canceled"
    assert await paid_charges(client) == []


async def test_paid_intent_is_neither_charged_again_nor_cancelled(
    client: httpx.AsyncClient, charge: Charge
) -> None:
    intent = (await charge()).json()

    for action in ("confirm", "cancel"):
        answer = await client.post(f"/v1/payment_intents/{intent['id']}/{action}")
        assert answer.status_code == 400
        assert answer.json()["error"]["payment_intent"]["status"] == "succeeded"

    assert len(await paid_charges(client)) == 1


async def test_list_is_newest_first_and_pages_by_cursor(client: httpx.AsyncClient) -> None:
    created = [
        (
            await client.post("/v1/payment_intents", data={"amount": "100", "currency": "eur"})
        ).json()["id"]
        for _ in range(3)
    ]

    first = (await client.get("/v1/payment_intents", params={"limit": 2})).json()
    rest = (
        await client.get("/v1/payment_intents", params={"starting_after": first["data"][-1]["id"]})
    ).json()

    assert [item["id"] for item in first["data"] + rest["data"]] == created[::-1]
    assert (first["has_more"], rest["has_more"]) == (True, False)


async def test_search_finds_an_order_by_its_metadata(client: httpx.AsyncClient) -> None:
    for order_id in ("a'b", "order-2", "order-2"):
        await client.post(
            "/v1/payment_intents",
            data={"amount": "100", "currency": "eur", "metadata[order_id]": order_id},
        )

    async def search(query: str, **more: str) -> dict[str, Any]:
        params = {"query": query, **more}
        return (await client.get("/v1/payment_intents/search", params=params)).json()

    assert len((await search("metadata['order_id']:'order-2'"))["data"]) == 2
    assert len((await search("""metadata["order_id"]:"a'b\""""))["data"]) == 1
    both = "metadata['order_id']:'order-2' AND status:'requires_payment_method'"
    assert len((await search(both))["data"]) == 2
    assert (await search("metadata['order_id']:'order-2' AND status:'succeeded'"))["data"] == []
    assert (await search("amount>100"))["error"]["param"] == "query"
    first = await search(both, limit="1")
    second = await search(both, limit="1", page=first["next_page"])
    assert first["has_more"]
    assert not second["has_more"]
    assert first["data"][0]["id"] != second["data"][0]["id"]


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"amount": None}, "amount", "parameter_missing"),
        ({"amount": ""}, "amount", "parameter_invalid_empty"),
        ({"amount": "ten"}, "amount", "parameter_invalid_integer"),
        ({"amount": "0"}, "amount", "parameter_invalid_integer"),
        ({"amount": "100000000"}, "amount", "parameter_invalid_integer"),
        ({"currency": "euro"}, "currency", "parameter_invalid"),
        ({"payment_method": "pm_card_unheard_of"}, "payment_method", "resource_missing"),
        ({"capture_method": "manual"}, "capture_method", "parameter_unknown"),
        ({"metadata[note]": "x" * 501}, "metadata[note]", "parameter_invalid"),
        ({"metadata": "flat"}, "metadata", "parameter_invalid"),
        ({"payment_method_types[]": "sepa"}, "payment_method_types[0]", "parameter_invalid"),
    ],
)
async def test_bad_parameter_is_named(
    client: httpx.AsyncClient, change: dict[str, str | None], param: str, code: str
) -> None:
    good: dict[str, str | None] = {
        "amount": "100",
        "currency": "eur",
        "payment_method": "pm_card_ok",
    }
    form = {name: value for name, value in (good | change).items() if value is not None}

    answer = await client.post("/v1/payment_intents", data=form)

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert error["code"] == code
    assert (await client.get("/v1/payment_intents")).json()["data"] == []


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b'{"amount": 100}', "application/json", 400),
        (b"amount=100&amount[a]=1", FORM, 400),
        (b"amount[b][c]=2&amount[b][c][d]=3", FORM, 400),
        (b"amount[b=1", FORM, 400),
        (b"amount=\xff", FORM, 400),
        (b"&".join(b"metadata[%d]=1" % n for n in range(201)), FORM, 400),
        (b"description=" + b"x" * 70_000, FORM, 413),
    ],
)
async def test_malformed_body_is_refused(
    client: httpx.AsyncClient, body: bytes, content_type: str, status: int
) -> None:
    answer = await client.post(
        "/v1/payment_intents", content=body, headers={"Content-Type": content_type}
    )

    assert answer.status_code == status
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("limit", ["0", "101", "many"])
async def test_lists_are_bounded(client: httpx.AsyncClient, limit: str) -> None:
    for path in ("payment_intents", "charges", "refunds"):
        answer = await client.get(f"/v1/{path}", params={"limit": limit})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "limit")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/payment_intents/pi_none",
        "/v1/refunds/re_none",
        "/v1/customers",
        "/nowhere",
    ],
)
async def test_what_does_not_exist_is_404_in_stripes_shape(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(path)

    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "authorization", [b"", b"Bearer sk_test_wrong", b"Bearer \xe9", b"Basic !", b"Digest x"]
)
async def test_wrong_key_is_401(client: httpx.AsyncClient, authorization: bytes) -> None:
    answer = await client.get("/v1/charges", headers={b"Authorization": authorization})

    assert answer.status_code == 401
    assert "WWW-Authenticate" in answer.headers
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_key_may_be_the_user_of_basic_authentication(client: httpx.AsyncClient) -> None:
    key = client.headers["Authorization"].removeprefix("Bearer ")
    credentials = base64.b64encode(f"{key}:".encode()).decode()

    answer = await client.get("/v1/charges", headers={"Authorization": f"Basic {credentials}"})

    assert answer.status_code == 200
