"""How many orders the platform completes, and when it is back at that after a blow."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from waybill.credentials import load
from waybill.parts import postgres
from waybill.project import Project

WINDOW = timedelta(seconds=4)
FULL = 0.95

# By the database's clock: those of the services may be wrong.
_TOLD = """
    SELECT min(created_at) AS at FROM event_log WHERE topic = $1 AND created_at >= $2 GROUP BY key
"""
_ENDS = {"tracking": "shipment.created", "orders": "order.cancelled"}


async def completions(project: Project, since: datetime) -> list[datetime]:
    """When orders got their tracking number, or were cancelled; ascending."""
    times: list[datetime] = []
    for database, topic in _ENDS.items():
        async with postgres.connection(load(project), database) as session:
            times += [row["at"] for row in await session.fetch(_TOLD, topic, since)]
    return sorted(times)


def back_at(times: Sequence[datetime], blow: datetime, usual: float) -> datetime | None:
    """The start of the first window after the blow with 95 % of the usual orders a second."""
    enough = FULL * usual * WINDOW.total_seconds()
    for start in (blow, *(time for time in times if time > blow)):
        if sum(start <= time < start + WINDOW for time in times) >= enough:
            return start
    return None
