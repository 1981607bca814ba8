"""Tracking numbers: `WB`, ten random symbols and a check symbol, easy to read out and to type.

The symbols are Crockford's base 32 (https://www.crockford.com/base32.html). The check symbol is a
Reed-Solomon parity over GF(32), which finds every single wrong symbol and every two swapped ones;
Crockford's own would need symbols that are no letters.
"""

import secrets
from collections.abc import Iterable
from functools import reduce

PREFIX = "WB"
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
RANDOM_SYMBOLS = 10  # 50 bits: nobody finds a parcel by guessing
LENGTH = len(PREFIX) + RANDOM_SYMBOLS + 1

_VALUES = {symbol: value for value, symbol in enumerate(ALPHABET)}
_LOOKALIKES = str.maketrans("OIL", "011")
_FIELD_POLYNOMIAL = 0b100101  # x^5 + x^2 + 1


def new_tracking_number() -> str:
    symbols = "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_SYMBOLS))
    return PREFIX + symbols + _check_symbol(symbols)


def parse_tracking_number(typed: str) -> str | None:
    """The number that was meant, whatever its case, spaces and hyphens; none if it is mistyped."""
    number = typed.upper().replace(" ", "").replace("-", "")
    symbols = number.removeprefix(PREFIX).translate(_LOOKALIKES)
    if len(number) != LENGTH or len(symbols) != LENGTH - len(PREFIX):
        return None
    if not _VALUES.keys() >= set(symbols) or _check_symbol(symbols[:-1]) != symbols[-1]:
        return None
    return PREFIX + symbols


def _check_symbol(symbols: Iterable[str]) -> str:
    return ALPHABET[reduce(lambda sum_, s: _times_x(sum_ ^ _VALUES[s]), symbols, 0)]


def _times_x(element: int) -> int:
    shifted = element << 1
    return shifted ^ _FIELD_POLYNOMIAL if shifted & 0b100000 else shifted
