"""The mails as their readers see them."""

from collections.abc import Callable
from typing import Any

import pytest
from contracts.inventory import LowStock
from contracts.orders import OrderCancelled, OrderCreated, OrderStatusChanged
from contracts.payments import PaymentRefunded, PaymentSucceeded
from contracts.tracking import ShipmentCreated
from contracts.users import UserRegistered
from hypothesis import given
from hypothesis import strategies as st
from notifications import domain
from notifications.domain import Contact, Message, Notification, Template
from notifications.rendering import Mail, compose, money, render


def mail_of(message: Message | None, name: str | None = "Ada") -> Mail:
    assert message is not None
    notification = Notification(
        template=message.template, params=message.params, order_id=message.order_id
    )
    if message.user_id is None:
        return compose(notification, None)
    return compose(notification, Contact(email="ada@example.org", name=name))


def test_every_template_has_what_it_needs(make: Callable[..., Any]) -> None:
    messages = [
        domain.welcome(make(UserRegistered)),
        domain.order_confirmed(make(OrderCreated)),
        domain.payment_received(make(PaymentSucceeded)),
        domain.shipment_created(make(ShipmentCreated)),
        domain.order_progressed(make(OrderStatusChanged)),
        domain.order_progressed(make(OrderStatusChanged, status="delivered")),
        domain.order_cancelled(make(OrderCancelled)),
        domain.refund_issued(make(PaymentRefunded)),
        domain.low_stock(make(LowStock)),
    ]

    mails = {message.template: mail_of(message) for message in messages if message}

    assert mails.keys() == set(Template)
    assert len({mail.subject for mail in mails.values()}) == len(Template)
    for mail in mails.values():
        assert f"<title>{mail.subject}</title>" in mail.html


def test_a_confirmation_lists_what_was_ordered_and_what_it_costs(
    make: Callable[..., Any],
) -> None:
    mail = mail_of(domain.order_confirmed(make(OrderCreated)))

    assert mail.recipient == "ada@example.org"
    assert "Hello Ada," in mail.html
    assert "2 \N{MULTIPLICATION SIGN} Desk lamp" in mail.html
    assert "EUR 98.00" in mail.html


@pytest.mark.parametrize("status", ["shipped", "delivered"])
def test_a_tracking_number_is_shown_if_there_is_one(make: Callable[..., Any], status: str) -> None:
    with_number = domain.order_progressed(make(OrderStatusChanged, status=status))
    without = domain.order_progressed(make(OrderStatusChanged, status=status, tracking_number=None))

    assert "WB0001" in mail_of(with_number).html
    assert "Tracking number" not in mail_of(without).html


def test_low_stock_goes_to_the_operators(make: Callable[..., Any]) -> None:
    mail = mail_of(domain.low_stock(make(LowStock)))

    assert mail.recipient == "operations@waybill.localhost"
    assert mail.subject == "Low stock: LAMP"
    assert "Hello," in mail.html


def test_names_are_text_and_never_markup(make: Callable[..., Any]) -> None:
    mail = mail_of(domain.welcome(make(UserRegistered)), name="<script>alert(1)</script>")

    assert "<script>" not in mail.html
    assert "&lt;script&gt;" in mail.html


def test_a_subject_is_not_escaped_as_markup_is() -> None:
    subject, html = render("low_stock", low_stock_values("A&B"))

    assert subject == "Low stock: A&B"
    assert "Low stock: A&amp;B" in html


@given(st.text())
def test_a_subject_is_one_printable_line_whatever_is_in_it(sku: str) -> None:
    subject, _ = render("low_stock", low_stock_values(f"{sku}\r\nBcc: eve@example.com"))

    assert subject.isprintable()
    assert subject.startswith("Low stock:")


def low_stock_values(sku: str) -> dict[str, Any]:
    return {"sku": sku, "available": 1, "threshold": 5, "name": None, "order_id": None}


@pytest.mark.parametrize("email", ["", "ada@example.org\r\nBcc: eve@example.com", "a@b.c;d@e.f"])
def test_a_mail_has_one_recipient_or_is_none(make: Callable[..., Any], email: str) -> None:
    message = domain.welcome(make(UserRegistered))
    welcome = Notification(template=message.template, params=message.params)

    with pytest.raises(ValueError, match="not one mail address"):
        compose(welcome, Contact(email=email, name="Ada"))


@pytest.mark.parametrize(
    ("minor_units", "currency", "text"),
    [
        (0, "EUR", "EUR 0.00"),
        (5, "CHF", "CHF 0.05"),
        (123_456_789, "USD", "USD 1,234,567.89"),
        (1_500, "JPY", "JPY 1,500"),
        (1_234_567, "KWD", "KWD 1,234.567"),
        (150_000, "RSD", "RSD 1,500.00"),
    ],
)
def test_money_has_the_decimals_of_its_currency(minor_units: int, currency: str, text: str) -> None:
    assert money(minor_units, currency) == text
