"""What events make of a payment, in whatever order they come."""

from itertools import permutations
from typing import Any

import pytest
from chassis.testing import Delivered, dead_letters, logged
from contracts.payments import PaymentFailed, PaymentRefunded, PaymentSucceeded


async def test_an_order_with_its_stock_reserved_is_charged_once(
    deliver: Delivered, desk: Any, provider: Any, order: Any
) -> None:
    it = order(total=12_345)
    await deliver(it.created())
    await deliver(it.reserved())
    await desk.settle()

    [charge] = provider.charges(it.id)
    assert (charge.amount, charge.currency) == (12_345, "eur")
    [event] = await logged(PaymentSucceeded)
    payment = await desk.payment_of(it.id)
    assert payment.status == "succeeded"
    assert event.payment_id == payment.id
    assert (event.order_id, event.user_id) == (it.id, it.user_id)
    assert (event.amount, event.currency) == (12_345, "EUR")


async def test_a_reservation_that_overtakes_its_order_is_charged_as_well(
    deliver: Delivered, desk: Any, provider: Any, order: Any
) -> None:
    it = order()
    await deliver(it.reserved())
    await desk.settle()
    assert provider.calls == []

    await deliver(it.created())
    await desk.settle()

    assert len(provider.charges(it.id)) == 1


async def test_nothing_is_charged_before_the_stock_is_reserved(
    deliver: Delivered, desk: Any, provider: Any, order: Any
) -> None:
    await deliver(order().created())
    await desk.settle()

    assert provider.calls == []


async def test_a_batch_charges_each_of_its_orders_once(
    deliver: Delivered, desk: Any, provider: Any, order: Any
) -> None:
    orders = [order() for _ in range(25)]
    await deliver(*(it.created() for it in orders), *(it.created() for it in orders))
    await deliver(*(it.reserved() for it in reversed(orders)))
    await desk.settle()

    assert all(len(provider.charges(it.id)) == 1 for it in orders)
    assert len(await logged(PaymentSucceeded)) == 25
    assert await dead_letters() == []


async def test_a_declined_card_fails_the_payment_with_the_providers_reason(
    deliver: Delivered, desk: Any, order: Any
) -> None:
    it = order("pm_card_declined")
    await deliver(it.created())
    await deliver(it.reserved())
    await desk.settle_everything()

    [event] = await logged(PaymentFailed)
    assert event.reason == "card_declined"
    assert (await desk.payment_of(it.id)).status == "failed"
    assert await logged(PaymentSucceeded) == []


async def test_a_charge_that_the_provider_will_not_even_try_fails_the_payment(
    deliver: Delivered, desk: Any, order: Any
) -> None:
    it = order("pm_of_nobody")
    await deliver(it.created())
    await deliver(it.reserved())
    await desk.settle_everything()

    [event] = await logged(PaymentFailed)
    assert event.reason == "resource_missing"


async def test_a_card_that_needs_approval_waits_for_the_customer(
    deliver: Delivered, desk: Any, provider: Any, order: Any
) -> None:
    it = order("pm_card_requires_action")
    await deliver(it.created())
    await deliver(it.reserved())
    await desk.settle_everything()

    payment = await desk.payment_of(it.id)
    assert payment.status == "requires_action"
    assert payment.client_secret.startswith("pi_")
    assert payment.due_at is None
    assert provider.charges(it.id) == []


async def test_a_cancelled_order_is_never_charged(
    deliver: Delivered, desk: Any, provider: Any, order: Any
) -> None:
    it = order()
    await deliver(it.created())
    await deliver(it.reserved())
    await deliver(it.cancelled())
    await desk.settle_everything()

    assert provider.calls == []
    assert (await desk.payment_of(it.id)).status == "cancelled"


@pytest.mark.parametrize("names", [*permutations(["created", "reserved", "cancelled"])])
@pytest.mark.parametrize("method", ["pm_card_ok", "pm_card_declined", "pm_card_requires_action"])
async def test_nothing_is_kept_of_a_cancelled_order_whichever_event_comes_first(
    deliver: Delivered, desk: Any, provider: Any, order: Any, names: tuple[str, ...], method: str
) -> None:
    it = order(method)
    for name in names:
        await deliver(getattr(it, name)())
        await desk.settle()
    await desk.settle_everything()

    assert provider.kept(it.id) == 0
    assert (await desk.payment_of(it.id)).status in {"cancelled", "failed", "refunded"}


async def test_a_cancellation_gives_back_what_was_charged_exactly_once(
    deliver: Delivered, desk: Any, provider: Any, order: Any
) -> None:
    it = order(total=4_900)
    await deliver(it.created())
    await deliver(it.reserved())
    await desk.settle()
    await deliver(it.cancelled())
    await deliver(it.cancelled())
    await desk.settle_everything()

    [charge] = provider.charges(it.id)
    assert charge.amount_refunded == 4_900
    [refund] = await desk.refunds_of(it.id)
    payment = await desk.payment_of(it.id)
    assert (payment.status, payment.refunded) == ("refunded", 4_900)
    [event] = await logged(PaymentRefunded)
    assert (event.amount, event.refunded_total, event.refund_id) == (4_900, 4_900, refund.id)


async def test_a_cancellation_closes_what_waited_for_the_customer(
    deliver: Delivered, desk: Any, provider: Any, order: Any
) -> None:
    it = order("pm_card_requires_action")
    await deliver(it.created())
    await deliver(it.reserved())
    await desk.settle()
    client_secret = (await desk.payment_of(it.id)).client_secret
    await deliver(it.cancelled())
    await desk.settle()

    payment = await desk.payment_of(it.id)
    assert (payment.status, payment.client_secret) == ("cancelled", None)
    await provider.approve(client_secret)
    assert provider.charges(it.id) == []


async def test_an_approval_that_beats_the_cancellation_is_given_back(
    deliver: Delivered, desk: Any, provider: Any, order: Any
) -> None:
    it = order("pm_card_requires_action")
    await deliver(it.created())
    await deliver(it.reserved())
    await desk.settle()
    await provider.approve((await desk.payment_of(it.id)).client_secret)
    await deliver(it.cancelled())
    await desk.settle()

    assert len(provider.charges(it.id)) == 1
    assert provider.kept(it.id) == 0
    assert (await desk.payment_of(it.id)).status == "refunded"


async def test_a_cancellation_of_a_failed_payment_changes_nothing(
    deliver: Delivered, desk: Any, order: Any
) -> None:
    it = order("pm_card_declined")
    await deliver(it.created())
    await deliver(it.reserved())
    await desk.settle()
    await deliver(it.cancelled())
    await desk.settle_everything()

    assert (await desk.payment_of(it.id)).status == "failed"
    assert await logged(PaymentRefunded) == []


@pytest.mark.parametrize("again", ["created", "reserved"])
@pytest.mark.parametrize(
    ("method", "outcome"),
    [("pm_card_ok", PaymentSucceeded), ("pm_card_declined", PaymentFailed)],
)
async def test_a_decided_payment_says_its_outcome_again_when_asked_again(
    deliver: Delivered, desk: Any, provider: Any, order: Any, again: str, method: str, outcome: Any
) -> None:
    it = order(method)
    await deliver(it.created())
    await deliver(it.reserved())
    await desk.settle()
    calls = len(provider.calls)
    await deliver(getattr(it, again)())
    await desk.settle_everything()

    first, second = await logged(outcome)
    assert first == second
    assert len(provider.calls) == calls


@pytest.mark.parametrize("again", ["created", "reserved"])
async def test_a_payment_that_waits_for_the_customer_is_not_begun_again(
    deliver: Delivered, desk: Any, provider: Any, order: Any, again: str
) -> None:
    it = order("pm_card_requires_action")
    await deliver(it.created())
    await deliver(it.reserved())
    await desk.settle()
    calls = len(provider.calls)
    await deliver(getattr(it, again)())
    await desk.settle_everything()

    payment = await desk.payment_of(it.id)
    assert payment.status == "requires_action"
    assert len(payment.attempts) == 1
    assert len(provider.calls) == calls


async def test_a_repeated_cancellation_is_told_of_the_refund_again(
    deliver: Delivered, desk: Any, provider: Any, order: Any
) -> None:
    it = order()
    await deliver(it.created())
    await deliver(it.reserved())
    await desk.settle()
    await deliver(it.cancelled())
    await desk.settle()
    await deliver(it.cancelled())
    await desk.settle_everything()

    first, second = await logged(PaymentRefunded)
    assert first == second
    assert len(await desk.refunds_of(it.id)) == 1


async def test_what_was_told_first_of_an_order_stays(
    deliver: Delivered, desk: Any, provider: Any, order: Any
) -> None:
    it = order(total=100)
    await deliver(it.created())
    it.total = 999
    await deliver(it.created())
    await deliver(it.reserved())
    await desk.settle()

    assert [charge.amount for charge in provider.charges(it.id)] == [100]
