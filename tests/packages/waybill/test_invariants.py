"""`verify` finds each way of breaking a promise, and nothing in a platform that keeps them all."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from waybill import ledger
from waybill.project import Project
from waybill.verify.invariants import is_settled, judge
from waybill.verify.snapshot import (
    Charge,
    DeadLetterRow,
    OrderRow,
    PaymentRow,
    Projection,
    Reservation,
    ShipmentRow,
    Snapshot,
    Step,
    StockRow,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DELIVERED = OrderRow("d", "delivered", 4, 500, "WB1", NOW, NOW)
CANCELLED = OrderRow("c", "cancelled", 3, 300, None, NOW, NOW)
STOCK = StockRow("MUG", "main", 10, 6, 1, 3, 1, 3)

GOOD = Snapshot(
    taken_at=NOW,
    orders=[DELIVERED, CANCELLED],
    history=[
        *(
            Step("d", n, s)
            for n, s in enumerate(("pending", "processing", "shipped", "delivered"), 1)
        ),
        *(Step("c", n, s) for n, s in enumerate(("pending", "processing", "cancelled"), 1)),
    ],
    payments=[PaymentRow("d", "succeeded", 500, 0), PaymentRow("c", "refunded", 300, 300)],
    charges=[Charge("d", 500, 0), Charge("c", 300, 300)],
    reservations=[Reservation("d", "dispatched"), Reservation("c", "released")],
    stock=[STOCK],
    shipments=[ShipmentRow("d", "delivered", "WB1"), ShipmentRow("c", "voided", "WB2")],
    projections=[Projection("d", "delivered", 4), Projection("c", "cancelled", 3)],
    unpublished={"orders": 0},
    queued={"orders-events": 0},
    acknowledged=["d", "c"],
)


def pending(minutes: int, payment: str) -> dict[str, Any]:
    changed = NOW - timedelta(minutes=minutes)
    order = OrderRow("d", "pending", 4, 500, None, changed, changed)
    return {"orders": [order, CANCELLED], "payments": [PaymentRow("d", payment, 0, 0)]}


def breakages() -> Iterator[Any]:
    def broken(invariant: str, name: str, **changes: Any) -> Any:
        return pytest.param(invariant, replace(GOOD, **changes), id=f"{invariant} {name}")

    yield broken("I1", "an acknowledged order is gone", acknowledged=["d", "c", "lost"])
    yield broken("I1", "an order was never announced", unannounced=["c"])
    yield broken("I2", "charged twice", charges=[*GOOD.charges, Charge("d", 500, 0)])
    yield broken("I2", "delivered unpaid", charges=[GOOD.charges[1]])
    yield broken("I2", "money of a cancelled order", charges=[GOOD.charges[0], Charge("c", 300, 0)])
    yield broken("I2", "payments believes otherwise", payments=[PaymentRow("d", "failed", 0, 0)])
    yield broken("I2", "two shipments", shipments=[*GOOD.shipments, GOOD.shipments[0]])
    yield broken("I2", "stock of a cancelled order", reservations=[Reservation("c", "reserved")])
    yield broken("I2", "parcel of a cancelled order", shipments=[ShipmentRow("c", "created", "W")])
    yield broken("I2", "sold but not held", reservations=[Reservation("d", "rejected")])
    yield broken("I2", "arrived but on the shelf", reservations=[Reservation("d", "reserved")])
    yield broken("I3", "negative", stock=[replace(STOCK, available=-1, received=3)])
    yield broken("I3", "a unit lost", stock=[replace(STOCK, received=11)])
    yield broken("I3", "reservations disagree", stock=[replace(STOCK, lines_reserved=2)])
    yield broken("I4", "pending", **pending(3, "processing"))
    yield broken(
        "I4",
        "the customer never came",
        **pending(17, "requires_action"),
    )
    late = replace(pending(17, "processing")["orders"][0], changed_at=NOW)
    yield broken("I4", "unpaid, whatever happened since", orders=[late, CANCELLED])
    yield broken("I5", "an outbox", unpublished={"orders": 1})
    yield broken("I5", "a queue", queued={"orders-events": 2})
    yield broken("I5", "the desk", dead_letters=[DeadLetterRow("orders", "t", "why")])
    yield broken("I6", "an illegal edge", history=[*GOOD.history[:3], Step("d", 4, "pending")])
    yield broken("I6", "a gap", history=GOOD.history[1:])
    yield broken("I6", "the dashboard", projections=[Projection("d", "shipped", 3)])
    yield broken("I6", "an order the dashboard lacks", projections=GOOD.projections[:1])


def test_a_platform_that_keeps_its_promises_is_found_to() -> None:
    verdicts = judge(GOOD)
    assert [v.violations for v in verdicts] == [()] * 6
    assert all(v.checked for v in verdicts)
    assert is_settled(GOOD)


@pytest.mark.parametrize(("invariant", "snapshot"), [*breakages()])
def test_a_broken_promise_is_found(invariant: str, snapshot: Snapshot) -> None:
    assert invariant in {v.invariant.name for v in judge(snapshot) if not v.holds}


@pytest.mark.parametrize("minutes", [14, 15])
def test_a_customer_has_a_quarter_of_an_hour_to_approve_and_the_end_a_little_more(
    minutes: int,
) -> None:
    waiting = pending(minutes, "requires_action")
    [verdict] = [v for v in judge(replace(GOOD, **waiting)) if v.invariant.name == "I4"]
    assert verdict.holds


def test_what_cannot_be_read_is_unchecked_with_the_reason() -> None:
    blind = replace(GOOD, charges=(), missing={"charges": "the provider is away"})
    by_name = {v.invariant.name: v for v in judge(blind)}
    assert by_name["I2"].unchecked == "charges: the provider is away"
    assert not by_name["I2"].holds
    assert by_name["I1"].unchecked is None


def test_i1_is_unchecked_without_the_log() -> None:
    blind = replace(GOOD, missing={"unannounced": "the log is away"})
    assert [v.unchecked for v in judge(blind)] == ["unannounced: the log is away", *[None] * 5]


@pytest.mark.parametrize(("minutes", "holds"), [(60, True), (62, False)])
def test_i4_knows_the_deadline(*, minutes: int, holds: bool) -> None:
    longer = replace(GOOD, payment_deadline=timedelta(hours=1))
    snapshot = replace(longer, **pending(minutes, "requires_action"))
    [verdict] = [v for v in judge(snapshot) if v.invariant.name == "I4"]
    assert verdict.holds == holds


def test_an_order_under_way_is_not_settled() -> None:
    assert not is_settled(replace(GOOD, orders=[replace(DELIVERED, status="pending")]))
    untracked = replace(DELIVERED, status="processing", tracking_number=None)
    assert not is_settled(replace(GOOD, orders=[untracked]))
    assert not is_settled(replace(GOOD, queued={"orders-events": 1}))


def test_the_ledger_keeps_every_answer_and_survives_a_torn_line(tmp_path: Any) -> None:
    project = Project(tmp_path)
    book = ledger.Ledger(project)
    book.note("k1", 201, "o1")
    book.note("k2", 503, None)
    book.note("k3", None, None)
    with ledger.path_of(project).open("a") as file:
        file.write('{"at": "2026-')
    entries = list(ledger.read(ledger.path_of(project)))
    assert [(e.status, e.acknowledged) for e in entries] == [
        (201, True),
        (503, False),
        (None, False),
    ]
