"""The read model's tables. No column of them can hold who ordered, or where it goes."""

from datetime import datetime
from uuid import UUID

from chassis.tables import Base
from sqlalchemy import BigInteger, Identity, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from dashboard.domain import OPEN

_OPEN = ", ".join(f"'{status}'" for status in sorted(OPEN))


class OrderSummary(Base):
    """An `OrderFacts`, as far as events have told it."""

    __tablename__ = "order_summaries"
    __table_args__ = (
        Index("ix_order_summaries_open", "status", postgresql_where=text(f"status IN ({_OPEN})")),
    )

    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    version: Mapped[int]
    status: Mapped[str]
    placed_at: Mapped[datetime | None] = mapped_column(index=True)
    total: Mapped[int | None] = mapped_column(BigInteger)
    currency: Mapped[str | None]
    tracking_number: Mapped[str | None]
    tracked_at: Mapped[datetime | None]
    paid: Mapped[int] = mapped_column(BigInteger)
    refunded: Mapped[int] = mapped_column(BigInteger)


class FeedLine(Base):
    """A `FeedEntry`. Lines of no order are all different: NULLs are, to the constraint."""

    __tablename__ = "feed_lines"
    __table_args__ = (UniqueConstraint("order_id", "topic", "revision"),)

    sequence: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    topic: Mapped[str]
    order_id: Mapped[UUID | None]
    revision: Mapped[str]
    phrase: Mapped[str]
    amount: Mapped[int | None] = mapped_column(BigInteger)
    currency: Mapped[str | None]
    occurred_at: Mapped[datetime]


class SkuSummary(Base):
    """What catalogue and inventory last said of a SKU; either may be the first to speak."""

    __tablename__ = "sku_summaries"

    sku: Mapped[str] = mapped_column(primary_key=True)
    product_version: Mapped[int] = mapped_column(server_default="0")
    name: Mapped[str | None]
    active: Mapped[bool] = mapped_column(server_default=text("true"))
    available: Mapped[int | None] = mapped_column(BigInteger)
    threshold: Mapped[int | None] = mapped_column(BigInteger)
    alerted_at: Mapped[datetime | None] = mapped_column(index=True)
