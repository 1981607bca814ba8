"""Writes events into the read model, each table's part of a batch in one round trip."""

from collections.abc import Sequence
from typing import cast

from chassis.tables import Base
from contracts.catalog import ProductUpdated
from contracts.inventory import LowStock
from sqlalchemy import CursorResult, Table, case, delete, func, select, tuple_
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.ext.asyncio import AsyncSession

from dashboard.domain import EARLIEST, FROM_NEWEST_VERSION, LARGEST, OrderFacts
from dashboard.feed import FeedEntry
from dashboard.tables import FeedLine, OrderSummary, SkuSummary

CHANGES = "dashboard_changes"
FEED_LINES_KEPT = 100_000
_TRIMMED_AT_ONCE = 10_000


def _into(entity: type[Base]) -> Insert:
    """Core's insert: through the ORM's a batch costs more than the database's work on it."""
    return insert(cast("Table", entity.__table__))


def _merging() -> Insert:
    """The merge that `domain` describes; LEAST and GREATEST pass over what is not known."""
    upsert = _into(OrderSummary)
    known, new = OrderSummary.__table__.c, upsert.excluded
    is_newer = tuple_(new.version, new.status) > tuple_(known.version, known.status)
    merged = {
        **{name: case((is_newer, new[name]), else_=known[name]) for name in FROM_NEWEST_VERSION},
        **{name: func.least(known[name], new[name]) for name in EARLIEST},
        **{name: func.greatest(known[name], new[name]) for name in LARGEST},
    }
    return upsert.on_conflict_do_update(index_elements=["order_id"], set_=merged)


def _replacing(version: str, *columns: str) -> Insert:
    """Takes over `columns` of a SKU unless what is known of them has a higher `version`."""
    upsert = _into(SkuSummary)
    known, new = SkuSummary.__table__.c[version], upsert.excluded[version]
    return upsert.on_conflict_do_update(
        index_elements=["sku"],
        set_={name: upsert.excluded[name] for name in (version, *columns)},
        where=known.is_(None) | (known <= new),
    )


_MERGE_ORDER = _merging()
_REPLACE_PRODUCT = _replacing("product_version", "name", "active")
_REPLACE_ALERT = _replacing("alerted_at", "available", "threshold")
_APPEND_LINE = _into(FeedLine).on_conflict_do_nothing()


async def merge_orders(session: AsyncSession, facts: Sequence[OrderFacts]) -> None:
    """Rows are locked in the order of their ids, so that batches cannot deadlock."""
    if facts:
        rows = sorted(facts, key=lambda fact: fact.order_id)
        await session.execute(_MERGE_ORDER, [row._asdict() for row in rows])


async def replace_products(session: AsyncSession, events: Sequence[ProductUpdated]) -> None:
    fields = {"sku", "product_version", "name", "active"}
    rows = [event.model_dump(include=fields) for event in events]
    await session.execute(_REPLACE_PRODUCT, sorted(rows, key=lambda row: row["sku"]))


async def replace_alerts(session: AsyncSession, events: Sequence[LowStock]) -> None:
    rows = [
        {
            "sku": e.sku,
            "available": e.available,
            "threshold": e.threshold,
            "alerted_at": e.occurred_at,
        }
        for e in sorted(events, key=lambda event: event.sku)
    ]
    await session.execute(_REPLACE_ALERT, rows)


async def append_to_feed(session: AsyncSession, entries: Sequence[FeedEntry]) -> None:
    """An event that was published again under another id is in the feed already."""
    await session.execute(_APPEND_LINE, [entry._asdict() for entry in entries])


async def announce_change(session: AsyncSession) -> None:
    """Tells every replica, when the transaction commits; many at once arrive as one."""
    await session.execute(select(func.pg_notify(CHANGES, "")))


async def trim_feed(session: AsyncSession) -> int:
    """Deletes a bounded number of lines beyond those that are kept; returns how many."""
    newest = select(func.max(FeedLine.sequence)).scalar_subquery()
    superfluous = (
        select(FeedLine.sequence)
        .where(FeedLine.sequence <= newest - FEED_LINES_KEPT)
        .order_by(FeedLine.sequence)
        .limit(_TRIMMED_AT_ONCE)
    )
    result = await session.execute(delete(FeedLine).where(FeedLine.sequence.in_(superfluous)))
    assert isinstance(result, CursorResult)  # noqa: S101  # a DELETE has a row count
    return result.rowcount
