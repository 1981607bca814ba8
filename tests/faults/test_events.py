"""What the broker may do to events: bring them often and in any order, and bring what is none."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from faults.events import logged_events, publish
from faults.trial import SETTLE_SECONDS, Trial
from waybill.commands.dead_letters import open_letters
from waybill.commands.verify import settled_verdicts
from waybill.project import Project
from waybill.shop import Json
from waybill.verify.sources import take_snapshot
from waybill.waiting import until

pytestmark = pytest.mark.timeout(420)

ORDERS = 40


@pytest.mark.quick
@pytest.mark.fault("repeated-shuffled")
async def test_every_event_comes_three_times_in_any_order(trial: Trial) -> None:
    begun = datetime.now(UTC)
    async with trial.under_load() as run:
        await run.accepted_at_least(ORDERS)
    before = await final_state(trial.project)

    events = 2 * await logged_events(trial.project, begun)
    trial.random.shuffle(events)
    async with trial.under_load(), trial.blow("each event twice more, shuffled"):
        await publish(trial.project, events)
    after = await final_state(trial.project)
    assert {
        name: [row for row in rows if row in set(after[name])] for name, rows in before.items()
    } == before
    assert trial.blows[0].repairs.get("absorbed", 0) >= len(events)


async def final_state(here: Project) -> dict[str, list[str]]:
    """What the services believe of orders once everything has settled."""
    await settled_verdicts(here, SETTLE_SECONDS)
    snapshot = await take_snapshot(here)
    names = (
        "orders",
        "history",
        "payments",
        "charges",
        "reservations",
        "shipments",
        "projections",
    )
    return {name: sorted(map(repr, getattr(snapshot, name))) for name in names}


@pytest.mark.quick
@pytest.mark.fault("poison")
async def test_only_poison_reaches_the_desk(trial: Trial) -> None:
    topic, readers = "payment.succeeded", ["dashboard", "notifications", "orders"]
    poison = {
        "bad JSON": '{"specversion": "1.0", "type": ',
        "unknown type": json.dumps(cloud_event("payment.imagined", {})),
        "wrong shape": json.dumps(cloud_event(topic, {"order_id": 7})),
    }
    async with trial.under_load() as run:
        async with trial.blow("poison"):
            for payload in poison.values():
                await trial.broker.publish(topic, payload)
                await run.accepted_at_least(run.accepted + 5)
            letters = await letters_at_the_desk(trial, len(readers) * len(poison))
        assert sorted(letter["service"] for letter in letters) == sorted(3 * readers)
        staff = await trial.shop.staff("staff")
        for letter in letters:
            await trial.shop.ask("POST", f"dead-letters/{letter['id']}/discard", person=staff)


async def letters_at_the_desk(trial: Trial, number: int) -> list[Json]:
    staff = await trial.shop.staff("staff")
    found: list[Json] = []

    async def arrived() -> bool:
        found[:] = (await open_letters(trial.shop, staff))["items"]
        return len(found) >= number

    await until(arrived, seconds=60, every=0.5)
    return found


def cloud_event(topic: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": str(uuid4()),
        "source": "urn:waybill:nobody",
        "type": topic,
        "datacontenttype": "application/json",
        "data": data,
    }
