"""Fixtures for the tests of `tracking`."""

from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from chassis.tables import new_id
from chassis.testing import Delivered, logged
from contracts.orders import (
    Address,
    CancellationReason,
    OrderCancellationRequested,
    OrderCancelled,
    OrderCreated,
    OrderLine,
    OrderStatus,
    OrderStatusChanged,
)
from contracts.tracking import ShipmentCreated
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncConnection
from tracking.app import app as tracking_app

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


@pytest.fixture
def service() -> str:
    return "tracking"


@pytest.fixture
def app(db: AsyncConnection) -> FastAPI:
    return tracking_app


class PlacedOrder:
    """An order of a customer, and the events that `orders` may publish about it."""

    def __init__(self, user_id: UUID | None = None) -> None:
        self.id = new_id()
        self.user_id = user_id or new_id()
        self._versions = count(1)

    def _stamp(self) -> dict[str, Any]:
        return {
            "order_id": self.id,
            "order_version": next(self._versions),
            "user_id": self.user_id,
            "occurred_at": NOW,
        }

    def created(self) -> OrderCreated:
        return OrderCreated(
            **self._stamp(),
            lines=(OrderLine(sku="LAMP", name="Lamp", quantity=1, unit_price=100),),
            total=100,
            currency="EUR",
            shipping_address=Address(
                line1="1 Long Lane", city="Oslo", postal_code="0150", country="NO"
            ),
            payment_method="pm_card_ok",
        )

    def moved(
        self, status: OrderStatus, previous: OrderStatus = OrderStatus.PENDING
    ) -> OrderStatusChanged:
        return OrderStatusChanged(**self._stamp(), status=status, previous_status=previous)

    def processing(self) -> OrderStatusChanged:
        return self.moved(OrderStatus.PROCESSING)

    def cancellation_requested(self) -> OrderCancellationRequested:
        return OrderCancellationRequested(**self._stamp())

    def cancelled(self) -> OrderCancelled:
        reason = CancellationReason.REQUESTED
        return OrderCancelled(**self._stamp(), reason=reason, total=100, currency="EUR")


@pytest.fixture
def placed_order() -> type[PlacedOrder]:
    return PlacedOrder


@pytest.fixture
def order() -> PlacedOrder:
    return PlacedOrder()


@pytest.fixture
async def shipment(order: PlacedOrder, deliver: Delivered) -> ShipmentCreated:
    """The shipment of `order`, made and not picked up yet."""
    await deliver(order.created())
    await deliver(order.processing())
    [created] = await logged(ShipmentCreated)
    return created
