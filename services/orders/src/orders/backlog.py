"""Takes no more orders than the platform gets done.

Accepting an order is the cheap part. What follows shares the machine with it, so orders that are
accepted without end are what keeps those before them from being completed.
"""

from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import contextmanager
from typing import ClassVar

from chassis.database import database
from chassis.problems import Unavailable
from chassis.worker import Worker
from prometheus_client import Gauge

from orders import store
from orders.settings import orders_settings

ORDERS_UNDER_WAY = Gauge("orders_under_way", "Orders that wait for the platform's next step.")


class TooManyOrders(Unavailable):
    """The platform has as much to do as it can; it takes the order a little later."""

    # Half of the backlog is done by then; who asks sooner costs those who were taken.
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "5"}


class Backlog:
    """How many orders are under way: those counted last, those placed since, those in hand."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._counted = 0
        self._placed_since = 0
        self._in_hand = 0

    @contextmanager
    def place(self) -> Generator[None]:
        """For the time that an order takes to be placed; raises `TooManyOrders`."""
        if self._counted + self._placed_since + self._in_hand >= self._most:
            raise TooManyOrders("There are more orders than we get done; try again in a moment.")
        self._in_hand += 1
        try:
            yield
            self._placed_since += 1
        finally:
            self._in_hand -= 1

    async def count(self) -> int:
        self._placed_since = 0  # before the query, which may see some of those placed meanwhile
        async with database.transaction() as session:
            self._counted = await store.count_under_way(session, limit=self._most)
        ORDERS_UNDER_WAY.set(self._counted)
        return 0


backlog = Backlog(orders_settings().max_orders_under_way)
counter = Worker("backlog", backlog.count, poll_seconds=1.0, interruptible=True)


async def room_for_an_order() -> AsyncGenerator[None]:
    with backlog.place():
        yield
