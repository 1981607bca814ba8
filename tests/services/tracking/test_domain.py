"""The rules of shipments: when one is made, how far it is, when it can be stopped."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from chassis.tables import new_id
from contracts.tracking import ShipmentCreated, ShipmentStatus, ShipmentUpdated, ShipmentVoided
from hypothesis import given
from hypothesis import strategies as st
from tracking.domain import WAY, Scan, Shipment, ShipmentIsVoided

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
ADDRESS = {"line1": "1 Long Lane", "city": "Oslo", "postal_code": "0150", "country": "NO"}


def _known(**facts: Any) -> Shipment:
    return Shipment(id=new_id(), order_id=new_id(), user_id=new_id(), version=0, **facts)


def _made(*scans: ShipmentStatus) -> Shipment:
    shipment = _known(is_wanted=True, shipping_address=ADDRESS)
    shipment.supply(NOW)
    for status in scans:
        shipment.scan(_scan(status))
    return shipment


def _scan(status: ShipmentStatus, **details: Any) -> Scan:
    return Scan(status=status, recorded_at=LATER, **{"location": "Oslo", **details})


@pytest.mark.parametrize(
    "facts", [{"is_wanted": False, "shipping_address": ADDRESS}, {"is_wanted": True}]
)
def test_no_shipment_is_made_of_half_the_facts(facts: dict[str, Any]) -> None:
    shipment = _known(**facts)

    assert shipment.supply(NOW) is None
    assert shipment.tracking_number is None


def test_a_shipment_is_made_once_and_told_as_often_as_asked() -> None:
    shipment = _known(is_wanted=True, shipping_address=ADDRESS)

    first, second = shipment.supply(NOW), shipment.supply(LATER)

    assert isinstance(first, ShipmentCreated)
    assert first == second
    assert first.occurred_at == NOW
    assert first.tracking_number == shipment.tracking_number


def test_a_shipment_that_was_not_picked_up_can_be_stopped() -> None:
    shipment = _made()

    first, second = shipment.stop(LATER), shipment.stop(LATER + timedelta(hours=1))

    assert isinstance(first, ShipmentVoided)
    assert first == second
    assert (first.shipment_id, first.occurred_at) == (shipment.id, LATER)
    assert shipment.status == ShipmentStatus.VOIDED


@pytest.mark.parametrize("status", WAY[1:])
def test_a_parcel_on_its_way_is_not_stopped_and_says_where_it_is(status: ShipmentStatus) -> None:
    shipment = _made(status)

    answer = shipment.stop(LATER)

    assert isinstance(answer, ShipmentUpdated)
    assert (answer.status, answer.shipment_version) == (status, 1)
    assert shipment.status == status


@pytest.mark.parametrize("end", [Shipment.stop, Shipment.forget])
def test_what_was_stopped_before_it_was_made_is_never_made(end: Any) -> None:
    shipment = _known(is_wanted=False)
    end(shipment, NOW)
    shipment.is_wanted, shipment.shipping_address = True, ADDRESS

    answer = shipment.supply(LATER)

    assert isinstance(answer, ShipmentVoided)
    assert answer.shipment_id is None
    assert shipment.tracking_number is None


def test_a_cancelled_order_voids_its_shipment_once() -> None:
    shipment = _made()

    first, second = shipment.forget(LATER), shipment.forget(LATER)

    assert isinstance(first, ShipmentVoided)
    assert second is None


def test_a_cancelled_order_that_never_had_a_shipment_needs_no_answer() -> None:
    assert _known(is_wanted=False).forget(NOW) is None


def test_a_cancelled_order_cannot_call_a_parcel_back() -> None:
    shipment = _made(ShipmentStatus.IN_TRANSIT)

    assert shipment.forget(LATER) is None
    assert shipment.status == ShipmentStatus.IN_TRANSIT


@given(st.lists(st.sampled_from(WAY[1:]), min_size=1, max_size=12))
def test_a_shipment_is_as_far_as_its_furthest_scan_and_never_goes_back(
    scans: list[ShipmentStatus],
) -> None:
    shipment = _made()

    for number, status in enumerate(scans, start=1):
        update = shipment.scan(_scan(status, location="Bergen", description="left the hub"))

        assert update.status == max(scans[:number], key=WAY.index) == shipment.status
        assert update.shipment_version == number
        assert (update.location, update.description) == ("Bergen", "left the hub")


def test_a_voided_shipment_takes_no_scans() -> None:
    shipment = _made()
    shipment.stop(NOW)

    with pytest.raises(ShipmentIsVoided):
        shipment.scan(_scan(ShipmentStatus.PICKED_UP))
    assert shipment.version == 0
