"""Batches about the same orders that run at the same time agree on one shipment for each."""

import asyncio
import random
from typing import Any
from uuid import uuid4

import httpx
import pytest
from chassis.identity import Role
from chassis.testing import Delivered, as_entry, bearer, logged
from contracts import Event
from contracts.tracking import ShipmentCreated, ShipmentUpdated
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine
from tracking.app import app as tracking_app


@pytest.fixture
def app(concurrent_db: AsyncEngine) -> FastAPI:
    return tracking_app


async def test_facts_that_arrive_at_once_make_one_shipment_each_without_a_deadlock(
    deliver: Delivered, placed_order: Any
) -> None:
    chance = random.Random(7)
    orders = [placed_order() for _ in range(100)]
    facts: list[list[Event]] = [
        [order.created() for order in orders],
        [order.processing() for order in orders],
        [order.created() for order in orders],
        [order.processing() for order in orders],
    ]

    def shuffled(events: list[Event]) -> list[Event]:
        return chance.sample(events, len(events))

    outcomes = await asyncio.gather(
        *(
            deliver.raw(
                events[0].topic,
                [as_entry(e.topic, e.model_dump(mode="json")) for e in shuffled(events)],
            )
            for events in facts
        )
    )

    assert {status for statuses in outcomes for status in statuses} == {"SUCCESS"}
    shipments = await logged(ShipmentCreated)
    assert {shipment.order_id for shipment in shipments} == {order.id for order in orders}
    assert len({shipment.tracking_number for shipment in shipments}) == 100


async def test_scans_at_once_are_all_kept_and_numbered(
    client: httpx.AsyncClient, shipment: ShipmentCreated
) -> None:
    carrier = bearer(uuid4(), Role.CARRIER)

    async def scan(status: str) -> int:
        reply = await client.post(
            f"/shipments/{shipment.shipment_id}/events",
            json={"status": status, "location": "Oslo"},
            headers=carrier | {"Idempotency-Key": str(uuid4())},
        )
        return reply.status_code

    statuses = ["picked_up", "in_transit", "out_for_delivery", "delivered"] * 2
    assert await asyncio.gather(*(scan(status) for status in statuses)) == [201] * 8

    updates = await logged(ShipmentUpdated)
    assert sorted(update.shipment_version for update in updates) == list(range(1, 9))
    assert max(updates, key=lambda update: update.shipment_version).status == "delivered"
