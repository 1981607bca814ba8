"""Tracking numbers survive being read out, typed and mistyped."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st
from tracking.tracking_numbers import (
    ALPHABET,
    LENGTH,
    PREFIX,
    new_tracking_number,
    parse_tracking_number,
)

numbers = st.builds(new_tracking_number)


def _with(number: str, position: int, symbol: str) -> str:
    return number[:position] + symbol + number[position + 1 :]


@given(numbers)
def test_a_tracking_number_is_found_as_it_was_given_out(number: str) -> None:
    assert number.startswith(PREFIX)
    assert parse_tracking_number(number) == number


@given(numbers)
def test_case_spaces_and_hyphens_do_not_matter(number: str) -> None:
    typed = f" {number[:5].lower()}-{number[5:9]} {number[9:].lower()}"

    assert parse_tracking_number(typed) == number


@given(numbers)
def test_symbols_that_look_alike_mean_the_same(number: str) -> None:
    for zero, one in [("O", "I"), ("o", "l"), ("o", "L")]:
        typed = PREFIX + number[len(PREFIX) :].replace("0", zero).replace("1", one)
        assert parse_tracking_number(typed) == number


@given(numbers, st.integers(len(PREFIX), LENGTH - 1))
def test_every_single_wrong_symbol_is_found(number: str, position: int) -> None:
    for symbol in set(ALPHABET) - {number[position]}:
        assert parse_tracking_number(_with(number, position, symbol)) is None


@given(numbers)
def test_every_two_swapped_symbols_are_found(number: str) -> None:
    for one, other in combinations(range(len(PREFIX), LENGTH), 2):
        if number[one] != number[other]:
            swapped = _with(_with(number, one, number[other]), other, number[one])
            assert parse_tracking_number(swapped) is None


@given(numbers)
def test_a_number_without_its_beginning_or_end_is_none(number: str) -> None:
    for typed in (number[:-1], number[len(PREFIX) :], number + "0", number[1:] + "0"):
        assert parse_tracking_number(typed) is None


@given(st.text(max_size=20))
def test_no_text_breaks_the_parser(typed: str) -> None:
    parsed = parse_tracking_number(typed)

    assert parsed is None or parse_tracking_number(parsed) == parsed


def test_numbers_do_not_repeat() -> None:
    assert len({new_tracking_number() for _ in range(10_000)}) == 10_000
