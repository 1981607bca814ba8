"""By the clock: orders that nobody pays for end, and orders that wait in vain are prompted."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import UUID

import structlog
from chassis.database import database
from chassis.event_log import append, repeat
from chassis.jobs import Job, in_batches
from contracts.orders import CancellationReason, OrderStatus
from prometheus_client import Counter

from orders import store
from orders.domain import PROMPTS, pauses
from orders.settings import orders_settings

log = structlog.get_logger(__name__)

SCHEDULE = "@every 15s"
BATCH = 100
MOST_BATCHES = 50  # a tick ends before the next but one
IDS_LOGGED = 20

EXPIRED = Counter("orders_expired_total", "Orders cancelled because nobody paid in time.")
PROMPTED = Counter("orders_prompted_total", "Prompts for the next step of an order.", ["status"])


async def expire_unpaid() -> None:
    await in_batches(_expire_some, size=BATCH, most=MOST_BATCHES)


async def prompt_stalled() -> None:
    await in_batches(_prompt_some, size=BATCH, most=MOST_BATCHES)


async def _expire_some() -> int:
    now = datetime.now(UTC)
    placed_by = now - orders_settings().payment_deadline
    async with database.transaction() as session:
        orders = await store.lock_unpaid(session, placed_by, BATCH)
        expired = [order.cancel(CancellationReason.PAYMENT_EXPIRED, now) for order in orders]
        await append(session, *expired)
    if orders:
        EXPIRED.inc(len(orders))
        log.info("orders_expired", count=len(orders), order_ids=_some(o.id for o in orders))
    return len(orders)


async def _prompt_some() -> int:
    steps = pauses(orders_settings().stall)
    by_status: defaultdict[OrderStatus, list[UUID]] = defaultdict(list)
    async with database.transaction() as session:
        for order_id, status in await store.mark_prompted(session, steps, datetime.now(UTC), BATCH):
            by_status[OrderStatus(status)].append(order_id)
        for status, ids in by_status.items():
            await repeat(session, PROMPTS[status], [str(order_id) for order_id in ids])
    for status, ids in by_status.items():
        PROMPTED.labels(status).inc(len(ids))
        log.warning("orders_prompted", status=status, count=len(ids), order_ids=_some(ids))
    return sum(map(len, by_status.values()))


def _some(ids: Iterable[UUID]) -> list[str]:
    return [str(order_id) for order_id in ids][:IDS_LOGGED]


jobs = (
    Job("expire-unpaid", SCHEDULE, expire_unpaid),
    Job("prompt-stalled", SCHEDULE, prompt_stalled),
)
