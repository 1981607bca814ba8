"""What the page shows, read from the read model."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from contracts.orders import OrderStatus
from pydantic import BaseModel, ConfigDict
from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from dashboard.domain import OPEN
from dashboard.tables import FeedLine, OrderSummary, SkuSummary

PERIOD = timedelta(hours=24)
BUCKETS = 60
BUCKET_SIZES = (timedelta(seconds=5), timedelta(minutes=1))
FEED_LENGTH = 60
LONGEST_ALERT_LIST = 8
LONGEST_JOURNEY = 200


class Money(BaseModel):
    """An amount in minor units of an ISO 4217 currency."""

    amount: int
    currency: str


class Figures(BaseModel):
    """Of the orders placed in the last 24 hours; what was refunded is not in `paid`."""

    orders: int
    paid: list[Money]
    seconds_to_tracking_number: float | None
    cancelled_share: float | None


class Rate(BaseModel):
    """Orders placed, and how many of them are cancelled by now; the last bucket is under way."""

    bucket_seconds: int
    start: datetime
    placed: list[int]
    cancelled: list[int]


class StockAtRisk(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    sku: str
    name: str | None
    available: int
    threshold: int
    alerted_at: datetime


class Happening(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    sequence: int
    topic: str
    order_id: UUID | None
    phrase: str
    amount: int | None
    currency: str | None
    occurred_at: datetime


class Snapshot(BaseModel):
    """`orders` counts the open orders, and the ended ones of the last 24 hours, by status."""

    at: datetime
    orders: dict[OrderStatus, int]
    figures: Figures
    rates: list[Rate]
    stock_at_risk: list[StockAtRisk]
    feed: list[Happening]


class Journey(BaseModel):
    """An order and what happened to it, oldest first."""

    model_config = ConfigDict(from_attributes=True)

    order_id: UUID
    status: OrderStatus
    placed_at: datetime | None
    total: int | None
    currency: str | None
    tracking_number: str | None
    paid: int
    refunded: int
    steps: list[Happening]


async def take_snapshot(session: AsyncSession) -> Snapshot:
    now = datetime.now(UTC)
    totals = await _totals(session, now - PERIOD)
    return Snapshot(
        at=now,
        orders=_orders_by_status(totals),
        figures=_figures(totals),
        rates=[await _rate(session, now, size) for size in BUCKET_SIZES],
        stock_at_risk=await _stock_at_risk(session, now - PERIOD),
        feed=await _feed(session),
    )


async def journey_of(session: AsyncSession, order_id: UUID) -> Journey | None:
    order = await session.get(OrderSummary, order_id)
    if order is None:
        return None
    steps = await session.scalars(
        select(FeedLine)
        .where(FeedLine.order_id == order_id)
        .order_by(FeedLine.occurred_at, FeedLine.sequence)
        .limit(LONGEST_JOURNEY)
    )
    return Journey.model_validate({**vars(order), "steps": steps.all()})


@dataclass(frozen=True, slots=True)
class Total:
    """Orders of one status and currency; all but `orders` is of the recently placed ones."""

    status: OrderStatus
    currency: str | None
    orders: int
    placed: int
    paid: int
    tracked: int
    seconds: float


async def _totals(session: AsyncSession, since: datetime) -> list[Total]:
    order = OrderSummary
    is_recent = order.placed_at >= since
    seconds = func.extract("epoch", order.tracked_at - order.placed_at)
    query = (
        select(
            order.status,
            order.currency,
            func.count(),
            func.count().filter(is_recent),
            func.coalesce(func.sum(order.paid - order.refunded).filter(is_recent), 0),
            func.count(seconds).filter(is_recent),
            func.coalesce(func.sum(seconds).filter(is_recent), 0),
        )
        .where(or_(is_recent, order.status.in_(OPEN)))
        .group_by(order.status, order.currency)
    )
    return [Total(*row) for row in await session.execute(query)]


def _orders_by_status(totals: Sequence[Total]) -> dict[OrderStatus, int]:
    return {
        status: sum(total.orders for total in totals if total.status == status)
        for status in OrderStatus
    }


def _figures(totals: Sequence[Total]) -> Figures:
    placed = sum(total.placed for total in totals)
    cancelled = sum(total.placed for total in totals if total.status == OrderStatus.CANCELLED)
    tracked = sum(total.tracked for total in totals)
    seconds = sum(total.seconds for total in totals)
    return Figures(
        orders=placed,
        paid=_paid(totals),
        seconds_to_tracking_number=float(seconds) / tracked if tracked else None,
        cancelled_share=cancelled / placed if placed else None,
    )


def _paid(totals: Sequence[Total]) -> list[Money]:
    """The largest sum first."""
    by_currency: Counter[str] = Counter()
    for total in totals:
        if total.currency and total.paid:
            by_currency[total.currency] += int(total.paid)
    return [Money(amount=sum_, currency=code) for code, sum_ in by_currency.most_common()]


async def _rate(session: AsyncSession, now: datetime, size: timedelta) -> Rate:
    seconds = size.total_seconds()
    under_way = datetime.fromtimestamp(now.timestamp() // seconds * seconds, UTC)
    start = under_way - (BUCKETS - 1) * size
    bucket = func.date_bin(size, OrderSummary.placed_at, start)
    cancelled = func.count().filter(OrderSummary.status == OrderStatus.CANCELLED)
    query = (
        select(bucket, func.count(), cancelled)
        .where(OrderSummary.placed_at >= start, OrderSummary.placed_at < under_way + size)
        .group_by(bucket)
    )
    rate = Rate(
        bucket_seconds=size.seconds, start=start, placed=[0] * BUCKETS, cancelled=[0] * BUCKETS
    )
    for begins, placed, of_them_cancelled in await session.execute(query):
        rate.placed[(begins - start) // size] = placed
        rate.cancelled[(begins - start) // size] = of_them_cancelled
    return rate


async def _stock_at_risk(session: AsyncSession, since: datetime) -> list[StockAtRisk]:
    """The SKUs that inventory warned of, the emptiest shelf first."""
    query = (
        select(SkuSummary)
        .where(SkuSummary.alerted_at >= since, SkuSummary.active)
        .order_by(SkuSummary.available, SkuSummary.sku)
        .limit(LONGEST_ALERT_LIST)
    )
    return [StockAtRisk.model_validate(sku) for sku in await session.scalars(query)]


async def _feed(session: AsyncSession) -> list[Happening]:
    query = select(FeedLine).order_by(FeedLine.sequence.desc()).limit(FEED_LENGTH)
    return [Happening.model_validate(line) for line in await session.scalars(query)]
