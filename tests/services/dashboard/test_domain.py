"""What the dashboard takes from an event, and what it leaves."""

from datetime import UTC
from typing import Any
from uuid import uuid4

import pytest
from contracts import ALL_EVENTS, Event
from contracts.inventory import LowStock, Shortage, StockRejected, StockReserved
from contracts.orders import (
    Address,
    CancellationReason,
    OrderCancellationRequested,
    OrderCancelled,
    OrderCreated,
    OrderStatus,
    OrderStatusChanged,
)
from contracts.payments import PaymentFailed, PaymentRefunded, PaymentSucceeded
from contracts.tracking import ShipmentCreated, ShipmentStatus, ShipmentUpdated
from dashboard.domain import EARLIEST, FROM_NEWEST_VERSION, LARGEST, OrderFacts, facts_of
from dashboard.feed import entry_of
from hypothesis import given
from hypothesis import strategies as st

PERSON = uuid4()
PERSONAL = "Anna Andersen, 1 Long Lane"
PERSONAL_FIELDS = {
    "user_id": st.just(PERSON),
    "shipping_address": st.builds(
        Address, **dict.fromkeys(Address.model_fields, st.just(PERSONAL))
    ),
    **dict.fromkeys(["email", "name", "location", "description"], st.just(PERSONAL)),
}


def a(event: type[Event], **fields: Any) -> st.SearchStrategy[Any]:
    """Any event of this type with these fields, and with personal data where it has room for it."""
    personal = {n: s for n, s in PERSONAL_FIELDS.items() if n in event.model_fields}
    moment = st.datetimes(timezones=st.just(UTC))
    given_fields = {name: st.just(value) for name, value in fields.items()}
    return st.builds(event, occurred_at=moment, **(personal | given_fields))


@given(event=st.one_of(*map(a, ALL_EVENTS)))
def test_nothing_that_names_a_person_is_kept_of_any_event(event: Any) -> None:
    kept = repr([*entry_of(event), *(facts_of(event) or ())])

    assert PERSONAL not in kept
    assert str(PERSON) not in kept


@given(event=st.one_of(*map(a, ALL_EVENTS)))
def test_every_event_has_a_line_in_the_feed(event: Any) -> None:
    entry = entry_of(event)

    assert entry.topic == event.topic
    assert entry.phrase
    assert entry.occurred_at == event.occurred_at


SHORTAGES = (
    Shortage(sku="MUG", requested=3, available=1),
    Shortage(sku="LAMP", requested=1, available=0),
)


@pytest.mark.parametrize(
    ("event", "phrase"),
    [
        (a(OrderCreated, lines=()), "Order placed: 0 items"),
        (a(OrderStatusChanged, status=OrderStatus.SHIPPED), "Order now shipped"),
        (
            a(OrderCancelled, reason=CancellationReason.OUT_OF_STOCK),
            "Order cancelled: out of stock",
        ),
        (
            a(StockReserved, lines=[{"sku": "MUG", "warehouse": "A", "quantity": 1}]),
            "Stock reserved: 1 item",
        ),
        (a(StockRejected, shortages=SHORTAGES), "Out of stock: MUG, LAMP"),
        (a(LowStock, sku="MUG", available=2), "Low stock: MUG, 2 left"),
        (a(PaymentFailed, reason="card_declined"), "Payment failed: card declined"),
        (a(ShipmentCreated, tracking_number="WB1"), "Tracking number WB1"),
        (a(ShipmentUpdated, status=ShipmentStatus.OUT_FOR_DELIVERY), "Parcel out for delivery"),
    ],
)
@given(data=st.data())
def test_the_phrase_says_what_happened(
    event: st.SearchStrategy[Any], phrase: str, data: st.DataObject
) -> None:
    assert entry_of(data.draw(event)).phrase == phrase


@given(event=a(PaymentRefunded))
def test_a_refund_shows_its_own_amount_and_counts_with_the_sum_of_all(
    event: PaymentRefunded,
) -> None:
    facts = facts_of(event)

    assert entry_of(event).amount == event.amount
    assert facts
    assert facts.refunded == event.refunded_total


@given(event=a(ShipmentUpdated))
def test_a_scan_does_not_move_the_order_for_the_order_says_itself_where_it_is(
    event: ShipmentUpdated,
) -> None:
    assert facts_of(event) is None


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (a(OrderCreated), OrderStatus.PENDING),
        (a(OrderStatusChanged, status=OrderStatus.DELIVERED), OrderStatus.DELIVERED),
        (a(OrderCancellationRequested), OrderStatus.CANCELLING),
        (a(OrderCancelled), OrderStatus.CANCELLED),
    ],
)
@given(data=st.data())
def test_an_order_event_tells_the_status_at_its_version(
    event: st.SearchStrategy[Any], status: OrderStatus, data: st.DataObject
) -> None:
    drawn = data.draw(event)
    facts = facts_of(drawn)

    assert facts
    assert (facts.version, facts.status) == (drawn.order_version, status)


@given(event=st.one_of(a(PaymentSucceeded), a(PaymentRefunded), a(ShipmentCreated)))
def test_other_events_never_say_more_of_the_status_than_that_there_is_an_order(event: Any) -> None:
    facts = facts_of(event)

    assert facts
    assert (facts.version, facts.status) == (0, OrderStatus.PENDING)


def test_every_fact_has_its_rule_for_merging() -> None:
    ruled = {"order_id", *FROM_NEWEST_VERSION, *EARLIEST, *LARGEST}

    assert ruled == set(OrderFacts._fields)
