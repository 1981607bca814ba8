"""The HTTP contract of `tracking`."""

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from chassis.identity import Role
from chassis.testing import Delivered, bearer, logged
from contracts.tracking import ShipmentCreated, ShipmentUpdated

CARRIER = bearer(uuid4(), Role.CARRIER)
SCAN = {"status": "picked_up", "location": "Oslo", "description": "collected"}


def key(value: str | None = None) -> dict[str, str]:
    return {"Idempotency-Key": value or str(uuid4())}


async def _scan(
    client: httpx.AsyncClient, shipment_id: UUID | None, status: str = "picked_up", **details: Any
) -> httpx.Response:
    body = {"status": status, "location": "Oslo", **details}
    return await client.post(f"/shipments/{shipment_id}/events", json=body, headers=CARRIER | key())


async def test_a_scan_moves_the_shipment_and_is_announced(
    client: httpx.AsyncClient, shipment: ShipmentCreated
) -> None:
    reply = await _scan(client, shipment.shipment_id, description="collected")

    assert reply.status_code == 201
    assert (reply.json()["status"], reply.json()["version"]) == ("picked_up", 1)
    [updated] = await logged(ShipmentUpdated)
    assert updated.order_id == shipment.order_id
    assert updated.tracking_number == shipment.tracking_number
    assert (updated.status, updated.shipment_version) == ("picked_up", 1)
    assert (updated.location, updated.description) == ("Oslo", "collected")


async def test_a_late_scan_is_kept_and_moves_nothing_back(
    client: httpx.AsyncClient, shipment: ShipmentCreated
) -> None:
    await _scan(client, shipment.shipment_id, "delivered")
    late = await _scan(client, shipment.shipment_id, "in_transit")

    assert late.status_code == 201
    assert (late.json()["status"], late.json()["version"]) == ("delivered", 2)
    assert [u.status for u in await logged(ShipmentUpdated)] == ["delivered", "delivered"]
    detail = await client.get(f"/shipments/{shipment.shipment_id}", headers=CARRIER)
    assert [event["status"] for event in detail.json()["events"]] == ["delivered", "in_transit"]


async def test_a_repeated_scan_counts_once(
    client: httpx.AsyncClient, shipment: ShipmentCreated
) -> None:
    url, headers = f"/shipments/{shipment.shipment_id}/events", CARRIER | key("scan-1")

    first = await client.post(url, json=SCAN, headers=headers)
    again = await client.post(url, json=SCAN, headers=headers)
    other = await client.post(url, json=SCAN | {"status": "delivered"}, headers=headers)

    assert first.json() == again.json()
    assert other.status_code == 422
    assert len(await logged(ShipmentUpdated)) == 1


async def test_a_voided_shipment_takes_no_scans(
    client: httpx.AsyncClient, order: Any, shipment: ShipmentCreated, deliver: Delivered
) -> None:
    await deliver(order.cancellation_requested())

    reply = await _scan(client, shipment.shipment_id)

    assert reply.status_code == 409
    assert reply.json()["type"] == "urn:waybill:problem:shipment-is-voided"
    assert await logged(ShipmentUpdated) == []


async def test_a_scan_of_an_unknown_shipment_is_not_found(client: httpx.AsyncClient) -> None:
    reply = await _scan(client, uuid4())

    assert reply.status_code == 404
    assert reply.json()["type"] == "urn:waybill:problem:shipment-not-found"


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({"status": "created"}, "status"),
        ({"status": "voided"}, "status"),
        ({"status": "lost"}, "status"),
        ({"location": None}, "location"),
        ({"location": "   "}, "location"),
        ({"location": "x" * 201}, "location"),
        ({"location": "Os\x00lo"}, "location"),
        ({"description": "two\nlines"}, "description"),
    ],
)
async def test_a_scan_that_makes_no_sense_is_refused(
    client: httpx.AsyncClient, shipment: ShipmentCreated, bad: dict[str, Any], field: str
) -> None:
    reply = await client.post(
        f"/shipments/{shipment.shipment_id}/events", json=SCAN | bad, headers=CARRIER | key()
    )

    assert reply.status_code == 422
    assert reply.json()["errors"][0]["field"] == field
    assert await logged(ShipmentUpdated) == []


async def test_a_scan_that_is_no_unicode_is_refused(
    client: httpx.AsyncClient, shipment: ShipmentCreated
) -> None:
    reply = await client.post(
        f"/shipments/{shipment.shipment_id}/events",
        content=rb'{"status": "picked_up", "location": "\ud800"}',
        headers=CARRIER | key() | {"Content-Type": "application/json"},
    )

    assert reply.status_code == 422


async def test_a_scan_needs_an_idempotency_key(
    client: httpx.AsyncClient, shipment: ShipmentCreated
) -> None:
    url = f"/shipments/{shipment.shipment_id}/events"

    assert (await client.post(url, json=SCAN, headers=CARRIER)).status_code == 400


@pytest.mark.parametrize(
    ("role", "status"),
    [(Role.CUSTOMER, 403), (Role.CARRIER, 201), (Role.STAFF, 201), (Role.ADMIN, 201)],
)
async def test_carriers_and_staff_scan(
    client: httpx.AsyncClient, order: Any, shipment: ShipmentCreated, role: Role, status: int
) -> None:
    url = f"/shipments/{shipment.shipment_id}/events"
    owner = bearer(order.user_id, role)

    assert (await client.post(url, json=SCAN, headers=owner | key())).status_code == status
    assert (await client.post(url, json=SCAN, headers=key())).status_code == 401


async def test_owners_see_their_shipments_and_no_others(
    client: httpx.AsyncClient, placed_order: Any, deliver: Delivered
) -> None:
    orders = [placed_order(), placed_order()]
    await deliver(*(order.created() for order in orders))
    await deliver(*(order.processing() for order in orders))
    mine = bearer(orders[0].user_id)

    listed = (await client.get("/shipments", headers=mine)).json()
    theirs = await client.get("/shipments", params={"order_id": orders[1].id}, headers=mine)

    assert [item["order_id"] for item in listed["items"]] == [str(orders[0].id)]
    assert listed["items"][0]["shipping_address"]["city"] == "Oslo"
    assert (listed["page"], listed["page_size"], listed["total"]) == (1, 20, 1)
    assert theirs.json()["items"] == []
    for shipment in await logged(ShipmentCreated):
        reply = await client.get(f"/shipments/{shipment.shipment_id}", headers=mine)
        assert reply.status_code == (200 if shipment.order_id == orders[0].id else 404)


@pytest.mark.parametrize("role", [Role.CARRIER, Role.STAFF, Role.ADMIN])
async def test_carriers_and_staff_see_all_shipments_newest_first_in_pages(
    client: httpx.AsyncClient, placed_order: Any, deliver: Delivered, role: Role
) -> None:
    orders = [placed_order() for _ in range(3)]
    for order in orders:
        await deliver(order.created())
    await deliver(*(order.processing() for order in orders))
    who = bearer(uuid4(), role)

    second = await client.get("/shipments", params={"page": 2, "page_size": 2}, headers=who)
    one = await client.get("/shipments", params={"order_id": orders[1].id}, headers=who)

    assert [item["order_id"] for item in second.json()["items"]] == [str(orders[0].id)]
    assert second.json()["total"] == 3
    assert [item["order_id"] for item in one.json()["items"]] == [str(orders[1].id)]


async def test_an_order_without_a_shipment_has_none(
    client: httpx.AsyncClient, order: Any, deliver: Delivered
) -> None:
    await deliver(order.created())

    reply = await client.get("/shipments", headers=bearer(order.user_id))

    assert reply.json()["items"] == []


async def test_shipments_are_for_those_who_log_in(
    client: httpx.AsyncClient, shipment: ShipmentCreated
) -> None:
    for path in ("/shipments", f"/shipments/{shipment.shipment_id}"):
        assert (await client.get(path)).status_code == 401


async def test_anyone_with_the_number_follows_the_parcel_and_learns_nothing_more(
    client: httpx.AsyncClient, shipment: ShipmentCreated
) -> None:
    await _scan(client, shipment.shipment_id, description="collected")

    reply = await client.get(f"/tracking/{shipment.tracking_number.lower()}")

    assert reply.status_code == 200
    [event] = reply.json()["events"]
    assert event.pop("recorded_at")
    assert event == SCAN
    assert reply.json() | {"events": []} == {
        "tracking_number": shipment.tracking_number,
        "status": "picked_up",
        "events": [],
    }


@pytest.mark.parametrize("number", ["WB0000000000", "WB00000000000", "nonsense", "%00", "WB%20"])
async def test_an_unknown_number_is_not_found(client: httpx.AsyncClient, number: str) -> None:
    assert (await client.get(f"/tracking/{number}")).status_code == 404
