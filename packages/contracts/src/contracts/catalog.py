"""Events of `catalog`. Prices are in minor units of `currency` (ISO 4217)."""

from datetime import datetime
from typing import ClassVar

from contracts.event import Event


class ProductUpdated(Event):
    """A product was added, changed or withdrawn (`active` is false); carries its whole state."""

    topic: ClassVar[str] = "product.updated"
    key_field: ClassVar[str] = "sku"

    sku: str
    product_version: int
    name: str
    category: str
    price: int
    currency: str
    active: bool
    occurred_at: datetime
