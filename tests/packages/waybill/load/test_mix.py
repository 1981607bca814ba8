"""What customers come for is drawn from the seed, and nothing else."""

from collections import Counter
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waybill.load.mix import (
    MOST_LINES,
    MOST_UNITS,
    SHOP,
    Arrivals,
    Card,
    Mix,
    Purchase,
    Visit,
    arrival_times,
    errand,
)

GOODS = [f"SKU-{number:04}" for number in range(1, 6)]
SEEDS = st.integers(min_value=0, max_value=2**32)
SHARES = st.floats(min_value=0, max_value=1)
THIRDS = st.floats(min_value=0, max_value=0.33)
MIXES = st.builds(
    Mix, SHARES, SHARES, THIRDS, THIRDS, unapproved=SHARES, timeout=THIRDS, cancelled=SHARES
)


@given(SEEDS, st.integers(min_value=0, max_value=10**6), MIXES)
def test_the_same_arrival_of_a_seed_comes_for_the_same(seed: int, number: int, mix: Mix) -> None:
    assert errand(seed, number, mix, GOODS, 40) == errand(seed, number, mix, GOODS, 40)


@given(
    SEEDS,
    MIXES,
    st.lists(st.sampled_from(GOODS), min_size=1, unique=True),
    st.integers(min_value=1, max_value=50),
)
def test_every_purchase_is_one_that_the_shop_takes(
    seed: int, mix: Mix, goods: list[str], customers: int
) -> None:
    for number in range(20):
        match errand(seed, number, mix, goods, customers):
            case Purchase(customer, lines):
                skus = [sku for sku, _ in lines]
                assert customer is None or 0 <= customer < customers
                assert 1 <= len(skus) == len(set(skus)) <= MOST_LINES
                assert set(skus) <= set(goods)
                assert all(1 <= units <= MOST_UNITS for _, units in lines)
            case Visit(customer, _, sku):
                assert 0 <= customer < customers
                assert sku in goods


def test_the_shares_are_those_of_the_mix() -> None:
    errands = [errand(7, number, SHOP, GOODS, 40) for number in range(20_000)]
    purchases = [found for found in errands if isinstance(found, Purchase)]
    cards = Counter(purchase.card for purchase in purchases)
    assert len(purchases) / len(errands) == pytest.approx(SHOP.buying, abs=0.02)

    def share(count: int) -> float:
        return count / len(purchases)

    assert share(cards[Card.DECLINED]) == pytest.approx(SHOP.declined, abs=0.005)
    assert share(cards[Card.REQUIRES_ACTION]) == pytest.approx(SHOP.requires_action, abs=0.005)
    assert share(cards[Card.TIMEOUT]) == pytest.approx(SHOP.timeout, abs=0.002)
    newcomers = sum(purchase.customer is None for purchase in purchases)
    assert share(newcomers) == pytest.approx(SHOP.newcomers, abs=0.004)
    regrets = sum(purchase.cancels_after is not None for purchase in purchases)
    assert share(regrets) == pytest.approx(SHOP.cancelled, abs=0.005)


def test_a_share_of_nothing_never_happens() -> None:
    plain = Mix(1, 0, 0, 0, unapproved=0, timeout=0, cancelled=0)
    for number in range(1_000):
        found = errand(7, number, plain, GOODS, 40)
        assert isinstance(found, Purchase)
        assert (found.card, found.approves, found.cancels_after) == (Card.OK, True, None)
        assert found.customer is not None


@given(SEEDS, st.floats(min_value=0.1, max_value=1_000), st.sampled_from(Arrivals))
def test_arrivals_of_a_seed_come_at_the_same_times_and_in_order(
    seed: int, rate: float, arrivals: Arrivals
) -> None:
    times = list(islice(arrival_times(seed, rate, arrivals), 50))
    assert times == list(islice(arrival_times(seed, rate, arrivals), 50))
    assert all(0 <= earlier <= later for earlier, later in pairwise(times))


@pytest.mark.parametrize("arrivals", Arrivals)
def test_arrivals_keep_their_rate_in_the_long_run(arrivals: Arrivals) -> None:
    times = list(islice(arrival_times(3, 50, arrivals), 20_000))
    assert len(times) / times[-1] == pytest.approx(50, rel=0.03)


def test_arrivals_of_poisson_are_as_uneven_as_they_should_be() -> None:
    """The variance of the count in a second is its mean; evenly spaced ones have next to none."""
    times = islice(arrival_times(3, 50, Arrivals.POISSON), 50 * 400)
    counts = Counter(int(time) for time in times)
    whole = [counts[second] for second in range(390)]
    mean = sum(whole) / len(whole)
    variance = sum((count - mean) ** 2 for count in whole) / len(whole)
    assert variance == pytest.approx(mean, rel=0.25)
