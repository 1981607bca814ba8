"""Fixtures for the tests of `inventory`."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from chassis.database import database
from chassis.tables import new_id
from contracts.orders import (
    Address,
    CancellationReason,
    OrderCancelled,
    OrderCreated,
    OrderLine,
    OrderStatus,
    OrderStatusChanged,
)
from fastapi import FastAPI
from inventory.app import app as inventory_app
from inventory.domain import Reservation, Stock, Warehouse
from inventory.store import Receipt, add_skus, receive, set_thresholds
from sqlalchemy import select

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


@pytest.fixture
def service() -> str:
    return "inventory"


@pytest.fixture
def app(db: object) -> FastAPI:
    return inventory_app


class Orders:
    """Events as `orders` would publish them; each order has versions of its own."""

    def __init__(self) -> None:
        self._versions = count(1)

    def _stamp(self, order_id: UUID) -> dict[str, Any]:
        return {
            "order_id": order_id,
            "order_version": next(self._versions),
            "user_id": new_id(),
            "occurred_at": NOW,
        }

    def created(self, order_id: UUID | None = None, **quantities: int) -> OrderCreated:
        lines = (
            OrderLine(sku=sku, name=sku.title(), quantity=quantity, unit_price=100)
            for sku, quantity in quantities.items()
        )
        return OrderCreated(
            **self._stamp(order_id or new_id()),
            lines=tuple(lines),
            total=100,
            currency="EUR",
            shipping_address=Address(line1="1 Lane", city="Oslo", postal_code="0150", country="NO"),
            payment_method="pm_card_ok",
        )

    def cancelled(self, order_id: UUID) -> OrderCancelled:
        reason = CancellationReason.REQUESTED
        return OrderCancelled(**self._stamp(order_id), reason=reason, total=100, currency="EUR")

    def moved(self, order_id: UUID, status: OrderStatus) -> OrderStatusChanged:
        previous = OrderStatus.PROCESSING
        return OrderStatusChanged(**self._stamp(order_id), status=status, previous_status=previous)


@pytest.fixture
def orders() -> Orders:
    return Orders()


Stocked = Callable[..., Awaitable[None]]


@pytest.fixture
def stocked() -> Stocked:
    """Puts units on the shelves of a warehouse: `await stocked("main", LAMP=5)`."""

    async def put(warehouse: str, threshold: int = 0, **quantities: int) -> None:
        async with database.transaction() as session:
            await session.merge(Warehouse(name=warehouse))
            await session.flush()
            await add_skus(session, quantities)
            await set_thresholds(session, dict.fromkeys(quantities, threshold))
            await receive(session, (Receipt(s, warehouse, q) for s, q in quantities.items()))

    return put


ShelfOf = Callable[..., Awaitable[tuple[int, int, int, int]]]


@pytest.fixture
def shelf_of() -> ShelfOf:
    """(received, available, reserved, dispatched) of a SKU in a warehouse."""

    async def read(sku: str, warehouse: str = "main") -> tuple[int, int, int, int]:
        async with database.transaction() as session:
            stock = await session.get_one(Stock, (sku, warehouse))
            return stock.received, stock.available, stock.reserved, stock.dispatched

    return read


@pytest.fixture
def status_of() -> Callable[[UUID], Awaitable[str | None]]:
    async def read(order_id: UUID) -> str | None:
        async with database.transaction() as session:
            query = select(Reservation.status).where(Reservation.order_id == order_id)
            return await session.scalar(query)

    return read
