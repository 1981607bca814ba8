"""What is told, to whom, and until when."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from contracts.inventory import LowStock
from contracts.orders import CancellationReason, OrderCancelled, OrderStatus, OrderStatusChanged
from hypothesis import given
from hypothesis import strategies as st
from notifications.domain import (
    ESSENTIAL,
    MAX_ATTEMPTS,
    Contact,
    Notification,
    Status,
    Template,
    is_mail_address,
    low_stock,
    order_cancelled,
    order_progressed,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def notification(template: Template = Template.ORDER_SHIPPED) -> Notification:
    return Notification(
        id=uuid4(),
        user_id=uuid4(),
        order_id=uuid4(),
        template=template,
        status=Status.PENDING,
        attempts=0,
    )


def contact(*, wants_mail: bool = True, email: str | None = "ada@example.org") -> Contact:
    return Contact(email=email, name="Ada", email_notifications=wants_mail)


@pytest.mark.parametrize("template", Template)
def test_the_preference_holds_except_for_what_is_essential(template: Template) -> None:
    assert notification(template).may_reach(contact())
    assert notification(template).may_reach(contact(wants_mail=False)) == (template in ESSENTIAL)


@pytest.mark.parametrize("template", Template)
def test_nothing_reaches_a_user_who_is_gone(template: Template) -> None:
    assert not notification(template).may_reach(contact(email=None))


def test_the_operators_have_no_preference() -> None:
    assert notification(Template.LOW_STOCK).may_reach(None)


def test_a_mail_that_was_taken_is_sent_and_announced() -> None:
    shipped = notification()

    event = shipped.conclude(None, NOW)

    assert (shipped.status, shipped.sent_at, shipped.attempts) == (Status.SENT, NOW, 0)
    assert event is not None
    assert (event.notification_id, event.template) == (shipped.id, "order_shipped")
    assert (event.user_id, event.order_id) == (shipped.user_id, shipped.order_id)


def test_a_mail_that_is_refused_too_often_fails() -> None:
    shipped = notification()

    for _ in range(MAX_ATTEMPTS - 1):
        assert shipped.conclude("550 no such user", NOW) is None
        assert shipped.status == Status.PENDING
    assert shipped.conclude("550 no such user", NOW) is None

    assert (shipped.status, shipped.sent_at) == (Status.FAILED, None)
    assert shipped.refusal == "550 no such user"


@pytest.mark.parametrize("status", OrderStatus)
def test_of_the_steps_of_an_order_leaving_and_arriving_are_told(
    make: Callable[..., Any], status: OrderStatus
) -> None:
    message = order_progressed(make(OrderStatusChanged, status=status))

    told = {OrderStatus.SHIPPED: "order_shipped", OrderStatus.DELIVERED: "order_delivered"}
    assert (message and message.template) == told.get(status)


@pytest.mark.parametrize("reason", CancellationReason)
def test_every_reason_to_cancel_has_words(
    make: Callable[..., Any], reason: CancellationReason
) -> None:
    message = order_cancelled(make(OrderCancelled, reason=reason))

    assert "_" not in message.params["reason"]


def test_each_fall_of_the_stock_is_a_happening_of_its_own(make: Callable[..., Any]) -> None:
    first = low_stock(make(LowStock))
    next_day = low_stock(make(LowStock, occurred_at=NOW))
    other = low_stock(make(LowStock, sku="MUG"))

    assert len({first.dedupe_key, next_day.dedupe_key, other.dedupe_key}) == 3
    assert low_stock(make(LowStock, available=2)).dedupe_key == first.dedupe_key


@pytest.mark.parametrize(
    "address", ["ada@example.org", "ada.b+shop@mail.example.org", "o'neil@x.org", "dörte@bücher.de"]
)
def test_a_bare_address_is_one(address: str) -> None:
    assert is_mail_address(address)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "ada",
        "@example.org",
        "ada@",
        "ada@example.org@example.com",
        "ada@example.org;eve@example.com",  # the binding's separator of recipients
        "ada@example.org,eve@example.com",
        "Ada <ada@example.org>",
        '"a b"@example.org',
        "ada @example.org",
        "ada@example.org\n",
        "ada@example.org\0",
    ],
)
def test_what_is_not_one_bare_address_is_none(value: str) -> None:
    assert not is_mail_address(value)


@given(st.text(), st.sampled_from("\r\n\t\0\x0b\x0c\x1c\x85\u2028\u2029;,<> "), st.text())
def test_nothing_that_splits_a_header_or_a_recipient_passes(
    before: str, splitter: str, after: str
) -> None:
    assert not is_mail_address(f"{before}{splitter}{after}@example.org")
    assert not is_mail_address(f"ada@{before}{splitter}{after}")
