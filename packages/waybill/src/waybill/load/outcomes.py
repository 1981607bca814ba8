"""What became of orders, read from the databases afterwards: nobody polls the API for it."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from waybill.credentials import load
from waybill.parts import postgres
from waybill.project import Project

_ORDERS = """
    SELECT o.id::text, o.status, o.created_at, h.occurred_at AS cancelled_at
    FROM orders o
    LEFT JOIN order_history h ON h.order_id = o.id AND h.status = 'cancelled'
    WHERE o.id = ANY($1::uuid[])
"""
_SHIPMENTS = """
    SELECT order_id::text, created_at FROM shipments
    WHERE tracking_number IS NOT NULL AND order_id = ANY($1::uuid[])
"""
_UNAPPROVED = "SELECT order_id::text FROM payments WHERE status = 'requires_action'"
_MAILS = "SELECT count(*) FROM notifications WHERE status = 'pending'"
_OPEN = """
    SELECT id::text FROM orders
    WHERE status IN ('pending', 'cancelling') OR status = 'processing' AND tracking_number IS NULL
"""


@dataclass(frozen=True)
class Outcome:
    """Times are seconds since the epoch. `accepted_at` is the driver's, when it had the answer.

    The others are the platform's: the order was placed, had its shipment made with a tracking
    number, was cancelled. `status` is None for an order that is not in the database.
    """

    order_id: str
    accepted_at: float
    status: str | None = None
    placed_at: float | None = None
    tracked_at: float | None = None
    cancelled_at: float | None = None
    waits_for_customer: bool = False

    @property
    def completed_at(self) -> float | None:
        """When it had its tracking number, or else when it was cancelled."""
        return self.tracked_at or self.cancelled_at

    @property
    def seconds_to_tracking(self) -> float | None:
        if self.tracked_at is None or self.placed_at is None:
            return None
        return self.tracked_at - self.placed_at


async def read(project: Project, accepted: Mapping[str, float]) -> list[Outcome]:
    """The outcomes of the orders whose ids and times of acceptance are given, in that order."""
    ids = list(accepted)
    orders, shipments, unapproved = await asyncio.gather(
        _fetch(project, "orders", _ORDERS, ids),
        _fetch(project, "tracking", _SHIPMENTS, ids),
        _fetch(project, "payments", _UNAPPROVED),
    )
    rows = {row["id"]: row for row in orders}
    tracked = {row["order_id"]: row["created_at"] for row in shipments}
    waiting = {row["order_id"] for row in unapproved}
    return [
        _outcome(order_id, at, rows.get(order_id), tracked.get(order_id), waiting)
        for order_id, at in accepted.items()
    ]


async def under_way(project: Project, order_ids: Collection[str]) -> int:
    """How many of them some service, and no person, has still to do something for."""
    unfinished, unapproved = await asyncio.gather(
        _fetch(project, "orders", _OPEN), _fetch(project, "payments", _UNAPPROVED)
    )
    waiting = {row["order_id"] for row in unapproved}
    return len({row["id"] for row in unfinished} & set(order_ids) - waiting)


async def mails_waiting(project: Project) -> int:
    """Mails, not only of these orders, that are still to be sent."""
    [row] = await _fetch(project, "notifications", _MAILS)
    return row["count"]


def _outcome(
    order_id: str,
    accepted_at: float,
    row: Mapping[str, Any] | None,
    tracked_at: datetime | None,
    waiting: Collection[str],
) -> Outcome:
    if row is None:
        return Outcome(order_id, accepted_at)
    return Outcome(
        order_id,
        accepted_at,
        status=row["status"],
        placed_at=row["created_at"].timestamp(),
        tracked_at=_epoch(tracked_at),
        cancelled_at=_epoch(row["cancelled_at"]),
        waits_for_customer=row["status"] == "pending" and order_id in waiting,
    )


def _epoch(time: datetime | None) -> float | None:
    return time.timestamp() if time else None


async def _fetch(project: Project, database: str, query: str, *args: object) -> list[Any]:
    async with postgres.connection(load(project), database) as session:
        return list(await session.fetch(query, *args))
