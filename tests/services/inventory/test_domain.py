"""The rules of stock: who gets what, what may become of a reservation, when stock is low."""

from collections import Counter
from datetime import UTC, datetime
from uuid import UUID

import pytest
from chassis.tables import new_id
from contracts.inventory import (
    ReservedLine,
    Shortage,
    StockRejected,
    StockReleased,
    StockReserved,
)
from hypothesis import given
from hypothesis import strategies as st
from inventory.domain import (
    Allocation,
    Demand,
    Level,
    Reservation,
    ReservationStatus,
    allocate,
    low_stock,
)

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
LATER = datetime(2026, 1, 6, 12, 0, tzinfo=UTC)

_skus = st.sampled_from(["LAMP", "MUG", "SOFA"])
_warehouses = st.sampled_from(["main", "north", "south"])
_stock = st.dictionaries(st.tuples(_skus, _warehouses), st.integers(0, 30)).map(
    lambda shelves: [Level(sku, place, units, 0) for (sku, place), units in shelves.items()]
)
_demands = st.lists(
    st.builds(
        Demand,
        st.uuids(),
        st.dictionaries(_skus, st.integers(1, 20), min_size=1),
    ),
    max_size=15,
    unique_by=lambda demand: demand.order_id,
)


def _taken(allocations: list[Allocation]) -> Counter[tuple[str, str]]:
    units = Counter[tuple[str, str]]()
    for allocation in allocations:
        for line in allocation.lines:
            units[line.sku, line.warehouse] += line.quantity
    return units


@given(_stock, _demands)
def test_no_shelf_gives_more_than_it_holds(levels: list[Level], demands: list[Demand]) -> None:
    held = {(level.sku, level.warehouse): level.available for level in levels}

    for shelf, units in _taken(allocate(levels, demands)).items():
        assert 0 < units <= held[shelf]


@given(_stock, _demands)
def test_an_order_gets_all_it_asked_for_or_nothing(
    levels: list[Level], demands: list[Demand]
) -> None:
    asked = {demand.order_id: demand.quantities for demand in demands}

    for allocation in allocate(levels, demands):
        got = Counter[str]()
        for line in allocation.lines:
            got[line.sku] += line.quantity
        assert got == ({} if allocation.shortages else asked[allocation.order_id])


@given(_stock, _demands)
def test_every_order_is_answered_once(levels: list[Level], demands: list[Demand]) -> None:
    answered = [allocation.order_id for allocation in allocate(levels, demands)]

    assert Counter(answered) == Counter(demand.order_id for demand in demands)


@given(_stock, _demands, st.randoms(use_true_random=False))
def test_the_earliest_order_is_first_however_a_batch_is_sorted(
    levels: list[Level], demands: list[Demand], chance: object
) -> None:
    shuffled = sorted(demands, key=lambda _: chance.random())  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownLambdaType]  # a Random, which hypothesis leaves untyped

    assert allocate(reversed(levels), shuffled) == allocate(levels, demands)


@given(_stock, _demands)
def test_batches_promise_the_same_as_one_order_after_another(
    levels: list[Level], demands: list[Demand]
) -> None:
    together = allocate(levels, demands)

    left = {(level.sku, level.warehouse): level.available for level in levels}
    for demand, expected in zip(sorted(demands, key=lambda d: d.order_id), together, strict=True):
        now = [Level(sku, place, units, 0) for (sku, place), units in left.items()]
        [alone] = allocate(now, [demand])
        assert alone == expected
        for line in alone.lines:
            left[line.sku, line.warehouse] -= line.quantity


@given(_stock, _demands)
def test_a_rejection_names_each_shortage_and_is_true(
    levels: list[Level], demands: list[Demand]
) -> None:
    held = Counter[str]()
    for level in levels:
        held[level.sku] += level.available
    asked = {demand.order_id: demand.quantities for demand in demands}

    for allocation in allocate(levels, demands):
        for shortage in allocation.shortages:
            assert shortage.requested == asked[allocation.order_id][shortage.sku]
            assert shortage.available < shortage.requested
            assert shortage.available <= held[shortage.sku]


def test_a_line_is_not_split_if_one_warehouse_has_it_all() -> None:
    levels = [Level("LAMP", "main", 3, 0), Level("LAMP", "north", 5, 0)]

    [allocation] = allocate(levels, [Demand(new_id(), {"LAMP": 4})])

    assert allocation.lines == (ReservedLine(sku="LAMP", warehouse="north", quantity=4),)


def test_a_line_is_split_over_warehouses_if_it_must_be() -> None:
    levels = [
        Level("LAMP", "main", 3, 0),
        Level("LAMP", "north", 5, 0),
        Level("LAMP", "south", 0, 0),
    ]

    [allocation] = allocate(levels, [Demand(new_id(), {"LAMP": 8})])

    assert allocation.lines == (
        ReservedLine(sku="LAMP", warehouse="north", quantity=5),
        ReservedLine(sku="LAMP", warehouse="main", quantity=3),
    )


def test_an_unknown_sku_is_a_shortage() -> None:
    [allocation] = allocate([], [Demand(new_id(), {"GHOST": 1})])

    assert allocation.shortages == (Shortage(sku="GHOST", requested=1, available=0),)


@pytest.mark.parametrize(
    ("available", "taken", "threshold", "told"),
    [
        (10, 4, 5, False),
        (10, 5, 5, True),
        (10, 7, 5, True),
        (5, 1, 5, False),
        (1, 1, 0, True),
        (0, 0, 0, False),
    ],
)
def test_low_stock_is_told_when_the_threshold_is_crossed(
    available: int, taken: int, threshold: int, *, told: bool
) -> None:
    lines = [ReservedLine(sku="LAMP", warehouse="main", quantity=taken)] if taken else []

    events = low_stock([Level("LAMP", "main", available, threshold)], lines, NOW)

    assert [(e.sku, e.available, e.threshold) for e in events] == (
        [("LAMP", available - taken, threshold)] if told else []
    )


def test_low_stock_counts_the_units_of_all_warehouses() -> None:
    levels = [Level("LAMP", "main", 5, 5), Level("LAMP", "north", 3, 5)]
    take = ReservedLine(sku="LAMP", warehouse="main", quantity=1)

    assert low_stock(levels, [take] * 2, NOW) == []
    assert [event.available for event in low_stock(levels, [take] * 3, NOW)] == [5]


LINES = (ReservedLine(sku="LAMP", warehouse="main", quantity=2),)
SHORTAGES = (Shortage(sku="LAMP", requested=2, available=1),)


def _reservation(order_id: UUID | None = None) -> Reservation:
    return Reservation(order_id=order_id or new_id(), status=ReservationStatus.NEW)


def test_a_reservation_is_released_once() -> None:
    reservation = _reservation()
    reservation.decide(Allocation(reservation.order_id, lines=LINES), NOW)

    assert [reservation.cancel(LATER), reservation.cancel(LATER)] == [True, False]
    assert reservation.outcome(LINES) == StockReleased(
        order_id=reservation.order_id, occurred_at=LATER, lines=LINES
    )


def test_a_reservation_is_dispatched_once_and_stays_reserved_for_the_world() -> None:
    reservation = _reservation()
    reservation.decide(Allocation(reservation.order_id, lines=LINES), NOW)

    assert [reservation.ship(LATER), reservation.ship(LATER)] == [True, False]
    assert reservation.outcome(LINES) == StockReserved(
        order_id=reservation.order_id, occurred_at=NOW, lines=LINES
    )


def test_dispatched_units_cannot_be_released_nor_released_ones_dispatched() -> None:
    shipped, cancelled = _reservation(), _reservation()
    for reservation in (shipped, cancelled):
        reservation.decide(Allocation(reservation.order_id, lines=LINES), NOW)
    shipped.ship(LATER)
    cancelled.cancel(LATER)

    assert not shipped.cancel(LATER)
    assert not cancelled.ship(LATER)
    assert (shipped.status, cancelled.status) == ("dispatched", "released")


def test_a_rejection_is_final_and_has_nothing_to_give_back() -> None:
    reservation = _reservation()
    reservation.decide(Allocation(reservation.order_id, shortages=SHORTAGES), NOW)

    assert not reservation.cancel(LATER)
    assert not reservation.ship(LATER)
    assert not reservation.is_open
    assert reservation.outcome(()) == StockRejected(
        order_id=reservation.order_id, occurred_at=NOW, shortages=SHORTAGES
    )


def test_a_cancellation_that_overtakes_the_creation_closes_the_order() -> None:
    reservation = _reservation()

    assert not reservation.cancel(NOW)
    assert not reservation.is_open
    assert reservation.outcome(()) is None


def test_a_dispatch_that_overtakes_the_creation_is_remembered() -> None:
    reservation = _reservation()

    assert not reservation.ship(NOW)
    assert reservation.is_open
    reservation.decide(Allocation(reservation.order_id, lines=LINES), NOW)
    assert reservation.ship(LATER)
