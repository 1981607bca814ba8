"""A service works on what an earlier release has left."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from chassis.identity import Role
from chassis.testing import Delivered, bearer
from contracts.inventory import StockReserved
from contracts.payments import PaymentSucceeded
from contracts.tracking import ShipmentCreated, ShipmentStatus, ShipmentUpdated

HERE = Path(__file__).parent
NOW = datetime.now(UTC)

Row = dict[str, Any]
Tables = Mapping[str, Sequence[Row]]

READS: Mapping[str, tuple[str, Callable[[Tables], Sequence[Row]]]] = {
    "catalog": ("/products", lambda tables: [p for p in tables["products"] if p["active"]]),
    "inventory": ("/inventory", lambda tables: tables["skus"]),
    "orders": ("/orders", lambda tables: tables["orders"]),
    "payments": ("/payments", lambda tables: [p for p in tables["payments"] if p["user_id"]]),
    "tracking": (
        "/shipments",
        lambda tables: [s for s in tables["shipments"] if s["tracking_number"]],
    ),
    "users": ("/users", lambda tables: [u for u in tables["users"] if u["email"]]),
}
"""A list that the service serves to its staff, and the rows that must be in it."""


def recordings(*services: str) -> Any:
    found = [path for service in services for path in HERE.glob(f"*/{service}.jsonl.xz")]
    ids = [f"{path.parent.name}-{path.name.partition('.')[0]}" for path in found]
    return pytest.mark.parametrize("recording_path", found, ids=ids)


@recordings(*READS)
async def test_what_was_recorded_is_listed(
    recording: Any, service: str, client: httpx.AsyncClient
) -> None:
    path, expected = READS[service]
    reply = await client.get(path, headers=bearer(uuid4(), Role.ADMIN))
    assert reply.status_code == 200, reply.text
    assert reply.json()["total"] == len(expected(recording.tables)) > 0


@recordings("notifications")
async def test_customers_see_their_old_mails(recording: Any, client: httpx.AsyncClient) -> None:
    mails = recording.tables["notifications"]
    customer = mails[0]["user_id"]
    reply = await client.get("/notifications", headers=bearer(UUID(customer)))
    assert reply.json()["total"] == sum(mail["user_id"] == customer for mail in mails) > 0


@recordings("dashboard")
async def test_the_dashboard_shows_old_orders(recording: Any, client: httpx.AsyncClient) -> None:
    for order in recording.tables["order_summaries"][:20]:
        reply = await client.get(f"/api/orders/{order['order_id']}")
        assert reply.json()["status"] == order["status"]
    assert (await client.get("/api/snapshot")).status_code == 200


@recordings("orders")
async def test_an_order_that_was_pending_is_followed_to_the_doorstep(
    recording: Any, client: httpx.AsyncClient, deliver: Delivered
) -> None:
    old = next(order for order in recording.tables["orders"] if order["status"] == "pending")
    customer = UUID(old["user_id"])
    event: Row = {"order_id": UUID(old["id"]), "user_id": customer, "occurred_at": NOW}
    parcel: Row = event | {"shipment_id": uuid4(), "tracking_number": "WB1"}

    async def read() -> Row:
        reply = await client.get(f"/orders/{old['id']}", headers=bearer(customer))
        return reply.json()

    before = await read()
    assert (before["status"], before["total"]) == ("pending", old["total"])
    await deliver(StockReserved(**event, lines=()))
    await deliver(
        PaymentSucceeded(**event, payment_id=uuid4(), amount=old["total"], currency=old["currency"])
    )
    await deliver(ShipmentCreated(**parcel))
    assert (await read())["tracking_number"] == "WB1"
    await deliver(ShipmentUpdated(**parcel, status=ShipmentStatus.DELIVERED, shipment_version=5))
    delivered = await read()
    assert [step["status"] for step in delivered["history"]] == [
        "pending",
        "processing",
        "delivered",
    ]
