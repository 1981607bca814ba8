"""The rules of a product."""

from dataclasses import replace
from datetime import UTC, datetime

from catalog.domain import Details, Product

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LATER = datetime(2026, 3, 2, tzinfo=UTC)
LAMP = Details("Desk lamp", "Bright.", "Lighting", 4_900, "EUR")


def product() -> Product:
    return Product(
        sku="LAMP",
        **vars(LAMP),
        active=True,
        version=1,
        created_at=NOW,
        updated_at=NOW,
    )


def test_a_change_announces_the_whole_state_with_the_next_version() -> None:
    lamp = product()

    event = lamp.change(replace(LAMP, price=5_900), LATER)

    assert event is not None
    assert (event.sku, event.name, event.category) == ("LAMP", "Desk lamp", "Lighting")
    assert (event.price, event.currency, event.active) == (5_900, "EUR", True)
    assert (event.product_version, event.occurred_at) == (2, LATER)
    assert lamp.details == replace(LAMP, price=5_900)


def test_a_change_to_what_it_is_already_announces_nothing() -> None:
    lamp = product()

    assert lamp.change(LAMP, LATER) is None
    assert (lamp.version, lamp.updated_at) == (1, NOW)


def test_a_product_is_withdrawn_once() -> None:
    lamp = product()

    event = lamp.withdraw(LATER)

    assert event is not None
    assert (event.active, event.product_version) == (False, 2)
    assert lamp.withdraw(LATER) is None
    assert lamp.version == 2


def test_a_withdrawn_product_comes_back_even_if_nothing_else_changes() -> None:
    lamp = product()
    lamp.withdraw(NOW)

    event = lamp.change(LAMP, LATER)

    assert event is not None
    assert (event.active, event.product_version) == (True, 3)
