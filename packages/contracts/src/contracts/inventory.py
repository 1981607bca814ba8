"""Events of `inventory`."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from contracts.event import Event, Fact


class ReservedLine(Fact):
    sku: str
    warehouse: str
    quantity: int


class Shortage(Fact):
    """`available` is zero for a SKU that inventory does not know."""

    sku: str
    requested: int
    available: int


class StockEvent(Event):
    order_id: UUID
    occurred_at: datetime


class StockReserved(StockEvent):
    topic: ClassVar[str] = "stock.reserved"

    lines: tuple[ReservedLine, ...]


class StockRejected(StockEvent):
    topic: ClassVar[str] = "stock.rejected"

    shortages: tuple[Shortage, ...]


class StockReleased(StockEvent):
    topic: ClassVar[str] = "stock.released"

    lines: tuple[ReservedLine, ...]


class LowStock(Event):
    """The units available of a SKU, over all warehouses, fell to its threshold or below it."""

    topic: ClassVar[str] = "inventory.low_stock"
    key_field: ClassVar[str] = "sku"

    sku: str
    available: int
    threshold: int
    occurred_at: datetime
