"""What customers come for: every choice is drawn from the seed, and nothing here does any I/O."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from random import Random

MOST_LINES = 3
MOST_UNITS = 3
LONGEST_DOUBT_SECONDS = 2.0


class Card(StrEnum):
    OK = "pm_card_ok"
    DECLINED = "pm_card_declined"
    REQUIRES_ACTION = "pm_card_requires_action"
    TIMEOUT = "pm_card_timeout"


class Page(StrEnum):
    """What a customer who buys nothing looks at."""

    PRODUCTS = "products"
    PRODUCT = "product"
    ORDERS = "orders"
    TRACKING = "tracking"


@dataclass(frozen=True)
class Mix:
    """Shares between 0 and 1. `newcomers` register and log in first, which costs two Argon2id.

    `unapproved` is the share of payments that ask for the customer's approval and never get it.
    """

    buying: float = 0.7
    newcomers: float = 0.01
    declined: float = 0.02
    requires_action: float = 0.02
    unapproved: float = 0.2
    timeout: float = 0.002
    cancelled: float = 0.02


SHOP = Mix()


@dataclass(frozen=True)
class Purchase:
    """`customer` is a place among the registered; None for one who registers first.

    `cancels_after` are the seconds after which the customer thinks better of it, if ever.
    """

    customer: int | None
    lines: tuple[tuple[str, int], ...]
    card: Card
    approves: bool
    cancels_after: float | None


@dataclass(frozen=True)
class Visit:
    customer: int
    page: Page
    sku: str


Errand = Purchase | Visit


def errand(seed: int, number: int, mix: Mix, goods: Sequence[str], customers: int) -> Errand:
    """The errand of the arrival with this number, whatever became of those before it."""
    rng = Random(f"{seed}/{number}")  # noqa: S311  # to be repeated, not to be secret
    customer = rng.randrange(customers)
    if rng.random() >= mix.buying:
        return Visit(customer, rng.choice(list(Page)), rng.choice(goods))
    return Purchase(
        customer=None if rng.random() < mix.newcomers else customer,
        lines=_lines(rng, goods),
        card=_card(rng, mix),
        approves=rng.random() >= mix.unapproved,
        cancels_after=_doubt(rng, mix),
    )


def _lines(rng: Random, goods: Sequence[str]) -> tuple[tuple[str, int], ...]:
    count = min(len(goods), rng.randint(1, MOST_LINES))
    return tuple((sku, rng.randint(1, MOST_UNITS)) for sku in rng.sample(goods, count))


def _card(rng: Random, mix: Mix) -> Card:
    shares = {
        Card.DECLINED: mix.declined,
        Card.REQUIRES_ACTION: mix.requires_action,
        Card.TIMEOUT: mix.timeout,
    }
    weights = [*shares.values(), 1 - sum(shares.values())]
    return rng.choices([*shares, Card.OK], weights)[0]


def _doubt(rng: Random, mix: Mix) -> float | None:
    doubts, seconds = rng.random() < mix.cancelled, rng.uniform(0, LONGEST_DOUBT_SECONDS)
    return seconds if doubts else None


class Arrivals(StrEnum):
    POISSON = "poisson"
    EVEN = "even"


def arrival_times(seed: int, rate: float, arrivals: Arrivals) -> Iterator[float]:
    """Seconds since the beginning, `rate` a second, without end."""
    rng = Random(f"{seed}/arrivals")  # noqa: S311  # to be repeated, not to be secret

    def gaps() -> Iterator[float]:
        while True:
            yield rng.expovariate(rate) if arrivals is Arrivals.POISSON else 1 / rate

    return accumulate(gaps())
