"""Named queries over orders."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from chassis.paging import PageQuery, fetch_page
from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from orders.domain import HistoryEntry, Order


async def lock(session: AsyncSession, ids: Iterable[UUID]) -> dict[UUID, Order]:
    """The orders, locked in the order of their ids, so that batches cannot deadlock."""
    query = select(Order).where(Order.id.in_(set(ids))).order_by(Order.id).with_for_update()
    return {order.id: order for order in await session.scalars(query)}


async def find(
    session: AsyncSession, order_id: UUID, visible: ColumnElement[bool], *, lock: bool = False
) -> Order | None:
    query = select(Order).where(Order.id == order_id, visible).options(selectinload(Order.items))
    return await session.scalar(query.with_for_update() if lock else query)


async def history_of(session: AsyncSession, order: Order) -> Sequence[HistoryEntry]:
    return (await session.scalars(order.history.select().order_by(HistoryEntry.version))).all()


async def page(
    session: AsyncSession, visible: ColumnElement[bool], query: PageQuery
) -> tuple[Sequence[Order], int]:
    """The newest orders first (ids grow with time), and how many there are in all."""
    newest_first = select(Order).where(visible).order_by(Order.id.desc())
    return await fetch_page(session, newest_first.options(selectinload(Order.items)), query)
