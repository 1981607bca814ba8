"""The lifecycle of an order."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import uuid4

import pytest
from contracts.orders import Address, CancellationReason, OrderLine, OrderStatus
from hypothesis import given
from hypothesis import strategies as st
from orders.domain import (
    LONGEST_PAUSE,
    TRANSITIONS,
    Draft,
    IllegalTransition,
    Order,
    OrderAlreadyShipped,
    pauses,
    place,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LINES = (
    OrderLine(sku="A", name="a", quantity=3, unit_price=100),
    OrderLine(sku="B", name="b", quantity=1, unit_price=5),
)


def new_order(status: OrderStatus = OrderStatus.PENDING) -> Order:
    address = Address(line1="1", city="O", postal_code="1", country="NO")
    draft = Draft(uuid4(), LINES, "EUR", address, "pm_card_ok")
    order, _ = place(draft, NOW)
    order.status = status
    return order


def test_the_total_is_the_sum_of_the_lines() -> None:
    assert new_order().total == 305


@given(st.lists(st.sampled_from(OrderStatus)))
def test_reports_in_any_order_never_leave_the_legal_edges(reports: list[OrderStatus]) -> None:
    order = new_order()
    for status in reports:
        before, version = OrderStatus(order.status), order.version
        event = order.follow(status, NOW, "reported")
        moved = event is not None
        assert moved == (status in TRANSITIONS[before])
        assert order.version == version + moved
        assert order.status == (status if moved else before)


@pytest.mark.parametrize("status", [OrderStatus.CANCELLED, OrderStatus.RETURNED])
def test_an_ended_order_moves_no_more(status: OrderStatus) -> None:
    order = new_order(status)
    with pytest.raises(IllegalTransition):
        order.advance(OrderStatus.PROCESSING, NOW, "")
    assert order.give_up(CancellationReason.OUT_OF_STOCK, NOW) is None
    assert order.cancel_voided(NOW) is None


def test_a_shipped_order_refuses_its_cancellation() -> None:
    with pytest.raises(OrderAlreadyShipped):
        new_order(OrderStatus.SHIPPED).request_cancellation(NOW)


def test_only_a_pending_order_is_given_up() -> None:
    assert new_order().give_up(CancellationReason.OUT_OF_STOCK, NOW) is not None
    late = new_order(OrderStatus.PROCESSING)
    assert late.give_up(CancellationReason.PAYMENT_FAILED, NOW) is None


@given(st.timedeltas(timedelta(seconds=1), timedelta(days=1)))
def test_each_prompt_waits_twice_as_long_as_the_one_before_up_to_a_bound(first: timedelta) -> None:
    steps = pauses(first)
    assert steps[0] == min(first, LONGEST_PAUSE)
    assert steps[-1] == LONGEST_PAUSE
    for before, after in pairwise(steps):
        assert after == min(before * 2, LONGEST_PAUSE)
        assert after > before


@given(st.lists(st.sampled_from(["reserved", "processing", "prompted"])))
def test_only_what_brings_an_order_on_begins_its_wait_anew(happenings: list[str]) -> None:
    order = new_order()
    for minute, happening in enumerate(happenings, 1):
        now = NOW + timedelta(minutes=minute)
        before = order.updated_at
        if happening == "prompted":
            order.prompts, order.prompted_at = order.prompts + 1, now
            continue
        is_news = order.status == "pending" and (
            happening == "processing" or order.stock_reserved_at is None
        )
        if happening == "reserved":
            order.note_reservation(now, now)
        else:
            order.follow(OrderStatus.PROCESSING, now, "paid")
        assert order.updated_at == (now if is_news else before)
        if is_news:
            assert (order.prompts, order.prompted_at) == (0, None)
