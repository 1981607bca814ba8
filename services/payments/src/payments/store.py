"""Named queries over payments and refunds, with their locking."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from chassis.paging import PageQuery, fetch_page
from sqlalchemy import ColumnElement, Executable, Select, bindparam, column, func, select, true
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import contains_eager, joinedload, selectinload

from payments.domain import Due, Payment, ProviderEvent, Refund, RefundStatus, payment_id_of

DueT = TypeVar("DueT", bound=Due)

# What events tell; whatever is told first stays.
FACTS = (
    "user_id",
    "amount",
    "currency",
    "payment_method",
    "reserved_at",
    "cancelled_at",
    "trace_parent",
)
COLUMNS = ("id", "order_id", *FACTS)


async def merge(session: AsyncSession, facts: Iterable[dict[str, Any]]) -> Sequence[Payment]:
    """Adds facts, keyed by `order_id`, to the payments of their orders, which it locks.

    Rows are written in the order of their keys, so that batches cannot deadlock.
    """
    by_order = {fact["order_id"]: fact for fact in facts}
    rows = [{"id": payment_id_of(key), **by_order[key]} for key in sorted(by_order)]
    arrays = {name: [row.get(name) for row in rows] for name in COLUMNS}
    fresh = {"populate_existing": True}
    return (await session.scalars(_MERGE, arrays, execution_options=fresh)).all()


def _merge() -> Executable:
    """An array a column, so that it is one statement, and cached as one, for every batch size."""
    table = Payment.metadata.tables[Payment.__tablename__]
    columns = [table.c[name] for name in COLUMNS]
    arrays = func.unnest(*(bindparam(c.name, type_=ARRAY(c.type)) for c in columns))
    given = arrays.table_valued(*(column(c.name, c.type) for c in columns)).render_derived()
    new = insert(table).from_select(COLUMNS, select(given))
    merged = {name: func.coalesce(table.c[name], new.excluded[name]) for name in FACTS}
    upsert = new.on_conflict_do_update(index_elements=[table.c.order_id], set_=merged)
    return select(Payment).from_statement(upsert.returning(table))


_MERGE = _merge()


async def lock(
    session: AsyncSession, payment_id: UUID, visible: ColumnElement[bool] | None = None
) -> Payment:
    """The payment with its attempts, for a change; raises `NoResultFound`."""
    query = select(Payment).where(Payment.id == payment_id, true() if visible is None else visible)
    query = query.options(joinedload(Payment.attempts)).with_for_update(of=Payment)
    return (await session.scalars(query)).unique().one()


async def due_payments(session: AsyncSession, now: datetime, limit: int) -> Sequence[Payment]:
    """What is due and nobody else is just taking, with the attempts made so far."""
    query = _due(Payment, now, limit).with_for_update(skip_locked=True)
    return (await session.scalars(query.options(selectinload(Payment.attempts)))).all()


async def due_refunds(session: AsyncSession, now: datetime, limit: int) -> Sequence[Refund]:
    """What is due and nobody else is just taking, with the payments."""
    query = _due(Refund, now, limit).join(Refund.payment).options(contains_eager(Refund.payment))
    return (await session.scalars(query.with_for_update(skip_locked=True, of=Refund))).all()


def _due(kind: type[DueT], now: datetime, limit: int) -> Select[DueT]:
    return select(kind).where(kind.due_at <= now).order_by(kind.due_at).limit(limit)


async def refunds_of(session: AsyncSession, payment: Payment) -> Sequence[Refund]:
    """Of any outcome, the oldest first, which the ids of compensations do not tell."""
    query = select(Refund).where(Refund.payment_id == payment.id)
    return (await session.scalars(query.order_by(Refund.created_at, Refund.id))).all()


async def count_refunds(session: AsyncSession, payment: Payment) -> int:
    query = select(func.count()).where(Refund.payment_id == payment.id)
    return await session.scalar(query) or 0


async def refunds_made(
    session: AsyncSession, payments: Iterable[Payment]
) -> Sequence[tuple[Payment, Refund]]:
    """The refunds of these payments that the provider has carried out, as it did one by one."""
    by_id = {payment.id: payment for payment in payments if payment.refunded}
    if not by_id:
        return []
    query = select(Refund).where(
        Refund.payment_id.in_(by_id), Refund.status == RefundStatus.SUCCEEDED
    )
    refunds = await session.scalars(query.order_by(Refund.refunded_total))
    return [(by_id[refund.payment_id], refund) for refund in refunds]


async def is_news(session: AsyncSession, event_id: str) -> bool:
    """Remembers the provider's event; false if it was remembered before."""
    entry = insert(ProviderEvent).values(id=event_id).on_conflict_do_nothing()
    return await session.scalar(entry.returning(ProviderEvent.id)) is not None


async def page(
    session: AsyncSession, visible: ColumnElement[bool], query: PageQuery
) -> tuple[Sequence[Payment], int]:
    """The newest payments first (ids grow with time), and how many there are in all."""
    newest_first = select(Payment).where(visible).order_by(Payment.id.desc())
    return await fetch_page(session, newest_first, query)
