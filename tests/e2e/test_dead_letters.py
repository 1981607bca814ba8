"""Poison from the broker: it alone reaches the desk, and a person decides what becomes of it."""

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from waybill.commands.dead_letters import open_letters
from waybill.commands.verify import broken_promises, settled_verdicts
from waybill.credentials import load
from waybill.parts import postgres
from waybill.project import Project
from waybill.shop import Json, Person, Refused, Shop
from waybill.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

REFUSED_SKU, OTHER_SKU = "SKU-0005", "SKU-0004"
ONLY_THE_DASHBOARD_TAKES = "notification.sent"

# What a defect in the service would be: orders for one SKU cannot be handled until it is mended.
BREAK = f"""
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'the shelf is jammed'; END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON reservation_lines
        FOR EACH ROW WHEN (NEW.sku = '{REFUSED_SKU}') EXECUTE FUNCTION refuse();
"""
MEND = "DROP FUNCTION IF EXISTS refuse CASCADE"


@pytest.fixture
async def staff(shop: Shop) -> Person:
    return await shop.staff("staff")


@asynccontextmanager
async def jammed(here: Project) -> AsyncGenerator[None]:
    async with postgres.connection(load(here), "inventory") as inventory:
        await inventory.execute(BREAK)
        try:
            yield
        finally:
            await inventory.execute(MEND)


async def letters_at_the_desk(shop: Shop, staff: Person, number: int) -> Sequence[Json]:
    """What lies at the desk once there is as much as that."""
    found: Json = {}

    async def there() -> bool:
        found.update(await open_letters(shop, staff))
        return len(found["items"]) >= number and not found["unreachable"]

    try:
        await until(there, seconds=60, every=0.5)
    except TimeoutError:
        pytest.fail(f"wanted {number} letters, got {found}")
    return found["items"]


async def tracked(shop: Shop, customer: Person, order: Json) -> Json:
    async def reached() -> bool:
        order.update(await shop.read_order(customer, order["id"]))
        return bool(order["tracking_number"])

    await until(reached, seconds=60, every=0.5)
    return order


async def test_an_event_that_one_service_refuses_waits_at_its_desk_until_the_cause_is_gone(
    platform: Project, shop: Shop, staff: Person
) -> None:
    customer = await shop.register("Jammed Shelf")
    async with jammed(platform):
        poison = await shop.order(customer, [{"sku": REFUSED_SKU, "quantity": 2}])
        mates = [await shop.order(customer, [{"sku": OTHER_SKU, "quantity": 1}]) for _ in range(10)]
        for mate in mates:
            await tracked(shop, customer, mate)
        [letter] = await letters_at_the_desk(shop, staff, 1)
        assert (letter["service"], letter["topic"]) == ("inventory", "order.created")
        assert json.loads(letter["payload"])["data"]["order_id"] == poison["id"]
        assert "the shelf is jammed" in letter["reason"]
        [desk] = [v for v in await settled_verdicts(platform, 1) if v.invariant.name == "I5"]
        assert any("the shelf is jammed" in violation for violation in desk.violations)

        # More often than the circuit breaker on the way has patience with failures.
        for attempt in range(2, 14):
            with pytest.raises(Refused, match="the shelf is jammed") as refused:
                await decide(shop, staff, "replay", letter)
            assert (refused.value.status, refused.value.problem["attempts"]) == (409, attempt)

    for _ in range(2):
        assert (await decide(shop, staff, "replay", letter))["resolution"] == "replayed"
    await tracked(shop, customer, poison)
    assert (await open_letters(shop, staff))["total"] == 0
    assert await broken_promises(platform) == []


async def decide(shop: Shop, staff: Person, verb: str, letter: Json) -> Json:
    return await shop.ask("POST", f"dead-letters/{letter['id']}/{verb}", person=staff)


async def publish_raw(here: Project, content: bytes) -> None:
    """Hands the bytes to the broker as they are, as something that is none of ours might."""
    url = f"http://127.0.0.1:{here.app('orders').dapr_http_port}/v1.0/publish/pubsub/events"
    query = {"metadata.rawPayload": "true", "metadata.routingKey": ONLY_THE_DASHBOARD_TAKES}
    headers = {"dapr-api-token": load(here).dapr_api_token, "content-type": "application/json"}
    async with (
        aiohttp.ClientSession(headers=headers) as sidecar,
        sidecar.post(url, params=query, data=content) as reply,
    ):
        reply.raise_for_status()


def an_event(**attributes: Any) -> bytes:
    event: Json = {
        "specversion": "1.0",
        "id": str(uuid4()),
        "source": "urn:elsewhere",
        "type": ONLY_THE_DASHBOARD_TAKES,
        "datacontenttype": "application/json",
        "data": {},
    }
    return json.dumps(event | attributes).encode()


async def test_what_is_no_event_reaches_the_desk_of_those_who_got_it_and_can_be_discarded(
    platform: Project, shop: Shop, staff: Person
) -> None:
    poison = {
        "wrong shape": an_event(data={"wrong": "shape"}),
        "unknown type": an_event(type="moon.landed"),
        "bad JSON": b"{broken",
    }
    for content in poison.values():
        await publish_raw(platform, content)
    customer = await shop.register("Batch Mate")
    mates = [await shop.order(customer, [{"sku": OTHER_SKU, "quantity": 1}]) for _ in range(5)]
    for mate in mates:
        await tracked(shop, customer, mate)

    letters = await letters_at_the_desk(shop, staff, len(poison))
    assert {letter["service"] for letter in letters} == {"dashboard"}
    assert len(letters) == len(poison)
    for letter in letters:
        with pytest.raises(Refused) as refused:
            await decide(shop, staff, "replay", letter)
        assert refused.value.status == 409
        assert (await decide(shop, staff, "discard", letter))["resolution"] == "discarded"
    assert (await open_letters(shop, staff))["total"] == 0
    assert await broken_promises(platform) == []
