"""How the return of the throughput is measured."""

from datetime import UTC, datetime, timedelta

from faults.throughput import back_at

BLOW = datetime(2026, 1, 1, tzinfo=UTC)


def steady(first: float, last: float, per_second: int = 6) -> list[datetime]:
    count = round((last - first) * per_second)
    return [BLOW + timedelta(seconds=first + n / per_second) for n in range(count)]


def test_a_blow_that_costs_no_throughput_is_recovered_from_at_once() -> None:
    assert back_at(steady(0, 20), BLOW, usual=6) == BLOW


def test_an_outage_ends_with_the_first_full_window() -> None:
    assert back_at(steady(12, 20), BLOW, usual=6) == BLOW + timedelta(seconds=12)


def test_a_trickle_is_no_recovery() -> None:
    assert back_at(steady(0, 60, per_second=5), BLOW, usual=6) is None
