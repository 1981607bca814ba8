"""Named queries over orders."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from chassis.paging import PageQuery, fetch_page
from chassis.tables import first_id_at
from contracts.orders import OrderStatus
from sqlalchemy import ColumnElement, Row, and_, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import array
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from orders.domain import WAITING, HistoryEntry, Order

# Payments are decided sooner; one that is not may wait for its customer.
_UNDECIDED = timedelta(seconds=30)
# An older order is stuck, whatever is accepted beside it. It also keeps the query short.
_UNDER_WAY = timedelta(minutes=1)


async def lock(session: AsyncSession, ids: Iterable[UUID]) -> dict[UUID, Order]:
    """The orders, locked in the order of their ids, so that batches cannot deadlock."""
    query = select(Order).where(Order.id.in_(set(ids))).order_by(Order.id).with_for_update()
    return {order.id: order for order in await session.scalars(query)}


async def find(
    session: AsyncSession, order_id: UUID, visible: ColumnElement[bool], *, lock: bool = False
) -> Order | None:
    query = select(Order).where(Order.id == order_id, visible).options(selectinload(Order.items))
    return await session.scalar(query.with_for_update() if lock else query)


async def lock_unpaid(session: AsyncSession, placed_by: datetime, limit: int) -> Sequence[Order]:
    """The oldest pending orders that were placed by then, without those somebody else holds."""
    query = (
        select(Order)
        .where(Order.status == OrderStatus.PENDING, Order.created_at <= placed_by)
        .order_by(Order.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return (await session.scalars(query)).all()


async def mark_prompted(
    session: AsyncSession, pauses: Sequence[timedelta], now: datetime, limit: int
) -> Sequence[Row[UUID, str]]:
    """Ids and statuses of orders that have waited their pause, which are taken for prompted now.

    `pauses` are by the prompts that an order was given since it last came on; the last holds on.
    """
    pause = array(pauses)[func.least(Order.prompts + 1, len(pauses))]
    stalled = (
        select(Order.id)
        .where(text(f"({WAITING})"), Order.updated_at <= now - pauses[0])
        .where(func.coalesce(Order.prompted_at, Order.updated_at) + pause <= now)
        .order_by(Order.updated_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    prompted = (
        update(Order)
        .where(Order.id.in_(stalled))
        .values(prompts=Order.prompts + 1, prompted_at=now)
        .returning(Order.id, Order.status)
    )
    return (await session.execute(prompted)).all()


async def history_of(session: AsyncSession, order: Order) -> Sequence[HistoryEntry]:
    return (await session.scalars(order.history.select().order_by(HistoryEntry.version))).all()


async def page(
    session: AsyncSession, visible: ColumnElement[bool], query: PageQuery
) -> tuple[Sequence[Order], int]:
    """The newest orders first (ids grow with time), and how many there are in all."""
    newest_first = select(Order).where(visible).order_by(Order.id.desc())
    return await fetch_page(session, newest_first.options(selectinload(Order.items)), query)


async def count_under_way(session: AsyncSession, limit: int) -> int:
    """How many orders wait for stock, payment or parcel and not for a person; `limit` at most."""
    now = datetime.now(UTC)
    reserved_at = Order.stock_reserved_at
    undecided = or_(reserved_at.is_(None), reserved_at > now - _UNDECIDED)
    waiting = or_(
        and_(Order.status == OrderStatus.PENDING, undecided),
        and_(Order.status == OrderStatus.PROCESSING, Order.tracking_number.is_(None)),
    )
    recent = Order.id > first_id_at(now - _UNDER_WAY)
    found = select(Order.id).where(recent, waiting).limit(limit).subquery()
    return await session.scalar(select(func.count()).select_from(found)) or 0
