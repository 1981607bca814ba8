"""The order: its lifecycle, and what is always true of it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from chassis.problems import Conflict
from chassis.tables import Base, new_id
from contracts.orders import (
    Address,
    CancellationReason,
    OrderCancellationRequested,
    OrderCancelled,
    OrderCreated,
    OrderEvent,
    OrderLine,
    OrderStatus,
    OrderStatusChanged,
    Package,
)
from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, WriteOnlyMapped, mapped_column, relationship

S = OrderStatus

Money = Annotated[int, mapped_column(BigInteger)]  # in minor units

# What may follow what. An order never moves along an edge that is not here.
TRANSITIONS: dict[OrderStatus, frozenset[OrderStatus]] = {
    S.PENDING: frozenset({S.PROCESSING, S.CANCELLED}),
    S.PROCESSING: frozenset({S.SHIPPED, S.DELIVERED, S.CANCELLING, S.CANCELLED}),
    S.CANCELLING: frozenset({S.SHIPPED, S.DELIVERED, S.CANCELLED}),
    S.SHIPPED: frozenset({S.DELIVERED, S.RETURNED}),
    S.DELIVERED: frozenset({S.RETURNED}),
    S.CANCELLED: frozenset(),
    S.RETURNED: frozenset(),
}


# For the next step of some service, or for the customer to approve the payment.
WAITING = (
    "status IN ('pending', 'cancelling') OR (status = 'processing' AND tracking_number IS NULL)"
)


# What is told again to have an order go on, by where it waits; the services answer as they did, or
# as they would have. Only tracking needs two events to act: where the parcel goes, and that it may.
PROMPTS: dict[OrderStatus, tuple[type[OrderEvent], ...]] = {
    S.PENDING: (OrderCreated,),
    S.PROCESSING: (OrderCreated, OrderStatusChanged),
    S.CANCELLING: (OrderCancellationRequested,),
}

LONGEST_PAUSE = timedelta(minutes=15)


def pauses(first: timedelta) -> list[timedelta]:
    """How long an order waits for its next step before each prompt, the last for all to come.

    Each is twice the one before, up to `LONGEST_PAUSE`. `first` is more than nothing.
    """
    if first >= LONGEST_PAUSE:
        return [LONGEST_PAUSE]
    return [first, *pauses(first * 2)]


class IllegalTransition(Conflict):
    pass


class OrderAlreadyShipped(Conflict):
    pass


@dataclass(frozen=True)
class Draft:
    """An order as the customer asked for it, priced by us."""

    user_id: UUID
    lines: tuple[OrderLine, ...]
    currency: str
    shipping_address: Address
    payment_method: str
    package: Package | None = None

    @property
    def total(self) -> int:
        return sum(line.quantity * line.unit_price for line in self.lines)


class Order(Base):
    __tablename__ = "orders"
    __table_args__ = (
        CheckConstraint("total >= 0", name="total_not_negative"),
        Index("ix_orders_user_id_id", "user_id", "id"),
        Index("ix_orders_status_id", "status", "id"),
        Index("ix_orders_waiting", "updated_at", postgresql_where=text(WAITING)),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID]
    status: Mapped[str]
    version: Mapped[int]
    total: Mapped[Money]
    currency: Mapped[str]
    shipping_address: Mapped[dict[str, Any]]
    package: Mapped[dict[str, Any] | None]
    payment_method: Mapped[str]
    payment_id: Mapped[UUID | None]
    stock_reserved_at: Mapped[datetime | None]
    tracking_number: Mapped[str | None]
    cancellation_reason: Mapped[str | None]
    refunded: Mapped[Money]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    prompts: Mapped[int]
    prompted_at: Mapped[datetime | None]

    items: Mapped[list["OrderItem"]] = relationship(order_by="OrderItem.position", lazy="raise")
    history: WriteOnlyMapped["HistoryEntry"] = relationship()

    def _move(self, status: OrderStatus, now: datetime, note: str) -> None:
        if status not in TRANSITIONS[OrderStatus(self.status)]:
            raise IllegalTransition(f"An order that is {self.status} cannot become {status}.")
        self.status = status
        self.version += 1
        self._come_on(now)
        self.history.add(
            HistoryEntry(version=self.version, status=status, note=note, occurred_at=now)
        )

    def _come_on(self, now: datetime) -> None:
        """The order got on; its wait for the step after this one begins."""
        self.updated_at = now
        self.prompts = 0
        self.prompted_at = None

    def note_reservation(self, reserved_at: datetime, now: datetime) -> None:
        """Its stock is set aside; told again, it is no news."""
        if self.stock_reserved_at is None and self.status == S.PENDING:
            self._come_on(now)
        self.stock_reserved_at = reserved_at

    def _may_become(self, status: OrderStatus) -> bool:
        return status in TRANSITIONS[OrderStatus(self.status)]

    def advance(self, status: OrderStatus, now: datetime, note: str) -> OrderStatusChanged:
        """Moves the order forward; raises `IllegalTransition` if it may not go there."""
        previous = OrderStatus(self.status)
        self._move(status, now, note)
        return OrderStatusChanged(
            **self._stamp(now),
            status=status,
            previous_status=previous,
            tracking_number=self.tracking_number,
        )

    def follow(self, status: OrderStatus, now: datetime, note: str) -> OrderStatusChanged | None:
        """Moves along with what was reported; a late or repeated report changes nothing."""
        return self.advance(status, now, note) if self._may_become(status) else None

    def cancel(self, reason: CancellationReason, now: datetime) -> OrderCancelled:
        """Raises `IllegalTransition` if it is too late."""
        self._move(S.CANCELLED, now, reason.replace("_", " "))
        self.cancellation_reason = reason
        return OrderCancelled(
            **self._stamp(now), reason=reason, total=self.total, currency=self.currency
        )

    def give_up(self, reason: CancellationReason, now: datetime) -> OrderCancelled | None:
        """Cancels an order that cannot be fulfilled, unless it has left `pending` already."""
        return self.cancel(reason, now) if self.status == S.PENDING else None

    def cancel_voided(self, now: datetime) -> OrderCancelled | None:
        """Tracking has stopped the parcel."""
        reason = CancellationReason.REQUESTED
        return self.cancel(reason, now) if self._may_become(S.CANCELLED) else None

    def ask_tracking(self, now: datetime) -> OrderCancellationRequested:
        self._move(S.CANCELLING, now, "cancellation requested")
        return OrderCancellationRequested(**self._stamp(now))

    def request_cancellation(self, now: datetime) -> OrderEvent | None:
        """The event this leads to; none if the request was made before.

        Nothing is on its way while the order is pending, so it ends at once. Later only tracking
        knows whether the parcel can still be stopped.
        """
        match self.status:
            case S.CANCELLING | S.CANCELLED:
                return None
            case S.PENDING:
                return self.cancel(CancellationReason.REQUESTED, now)
            case S.PROCESSING:
                return self.ask_tracking(now)
            case _:
                raise OrderAlreadyShipped(f"The order is {self.status}; it can only be returned.")

    def _stamp(self, now: datetime) -> dict[str, Any]:
        return {
            "order_id": self.id,
            "order_version": self.version,
            "user_id": self.user_id,
            "occurred_at": now,
        }


class OrderItem(Base):
    __tablename__ = "order_items"
    __table_args__ = (CheckConstraint("quantity > 0", name="quantity_positive"),)

    order_id: Mapped[UUID] = mapped_column(ForeignKey(Order.id), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str]
    name: Mapped[str]
    quantity: Mapped[int]
    unit_price: Mapped[Money]


class HistoryEntry(Base):
    """What the order became, with the version it had then."""

    __tablename__ = "order_history"

    order_id: Mapped[UUID] = mapped_column(ForeignKey(Order.id), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str]
    note: Mapped[str]
    occurred_at: Mapped[datetime]


def place(draft: Draft, now: datetime) -> tuple[Order, OrderCreated]:
    order = Order(
        id=new_id(),
        user_id=draft.user_id,
        status=S.PENDING,
        version=1,
        total=draft.total,
        currency=draft.currency,
        shipping_address=draft.shipping_address.model_dump(),
        package=draft.package and draft.package.model_dump(),
        payment_method=draft.payment_method,
        refunded=0,
        prompts=0,
        created_at=now,
        updated_at=now,
        items=[
            OrderItem(position=position, **line.model_dump())
            for position, line in enumerate(draft.lines)
        ],
        history=[HistoryEntry(version=1, status=S.PENDING, note="placed", occurred_at=now)],
    )
    created = OrderCreated(
        order_id=order.id,
        order_version=1,
        user_id=draft.user_id,
        occurred_at=now,
        lines=draft.lines,
        total=draft.total,
        currency=draft.currency,
        shipping_address=draft.shipping_address,
        package=draft.package,
        payment_method=draft.payment_method,
    )
    return order, created
