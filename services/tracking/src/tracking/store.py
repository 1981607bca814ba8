"""Named queries over shipments and their scans."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from chassis.paging import PageQuery, fetch_page
from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from tracking.domain import Scan, Shipment


@dataclass(frozen=True)
class Facts:
    """What one event tells of an order's shipment."""

    order_id: UUID
    user_id: UUID
    shipping_address: dict[str, Any] | None = None
    is_wanted: bool = False


async def learn(session: AsyncSession, facts: Iterable[Facts]) -> Sequence[Shipment]:
    """Adds the facts, in whatever order they come, to what is known; returns the rows, locked.

    Rows are written in the order of their order ids, so that batches cannot deadlock.
    """
    rows = {fact.order_id: asdict(fact) for fact in facts}
    if not rows:
        return []
    return (await session.scalars(_LEARN, [rows[order_id] for order_id in sorted(rows)])).all()


_NEWS = insert(Shipment)
_LEARN = _NEWS.on_conflict_do_update(
    index_elements=[Shipment.order_id],
    set_={
        "shipping_address": func.coalesce(
            Shipment.shipping_address, _NEWS.excluded.shipping_address
        ),
        "is_wanted": or_(Shipment.is_wanted, _NEWS.excluded.is_wanted),
    },
).returning(Shipment)

# A row without a tracking number is no shipment yet, or never was one.
MADE = Shipment.tracking_number.is_not(None)


async def find(
    session: AsyncSession, which: ColumnElement[bool], *, lock: bool = False
) -> Shipment | None:
    query = select(Shipment).where(which, MADE)
    return await session.scalar(query.with_for_update() if lock else query)


async def page(
    session: AsyncSession, which: ColumnElement[bool], query: PageQuery
) -> tuple[Sequence[Shipment], int]:
    """The newest first (ids grow with time), and how many there are in all."""
    newest_first = select(Shipment).where(which, MADE).order_by(Shipment.id.desc())
    return await fetch_page(session, newest_first, query)


async def scans_of(session: AsyncSession, shipment: Shipment) -> Sequence[Scan]:
    query = select(Scan).where(Scan.shipment_id == shipment.id).order_by(Scan.id)
    return (await session.scalars(query)).all()
