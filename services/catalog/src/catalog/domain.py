"""The product: what is known of it, and what each change announces."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from chassis.tables import Base
from contracts.catalog import ProductUpdated
from sqlalchemy import CheckConstraint, Computed, Index, text
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

# Each text is in it as written, for the beginnings of words, and by English stems, for whole words
# in another form. Spelt as PostgreSQL prints it back, so that model and migration compare equal.
_SEARCH = """
setweight(to_tsvector('simple'::regconfig, name), 'A'::"char")
|| setweight(to_tsvector('english'::regconfig, name), 'A'::"char")
|| setweight(to_tsvector('simple'::regconfig, replace(sku, '-'::text, ' '::text)), 'A'::"char")
|| setweight(to_tsvector('simple'::regconfig, category), 'B'::"char")
|| setweight(to_tsvector('english'::regconfig, category), 'B'::"char")
|| setweight(to_tsvector('simple'::regconfig, description), 'C'::"char")
|| setweight(to_tsvector('english'::regconfig, description), 'C'::"char")
"""


@dataclass(frozen=True)
class Details:
    """What staff decide about a product.

    `price` is in minor units of `currency`; `package` is what one unit weighs and measures.
    """

    name: str
    description: str
    category: str
    price: int
    currency: str
    package: dict[str, float] | None = None


class Product(Base):
    """`version` grows by one with each change; a withdrawn product is not `active`."""

    __tablename__ = "products"
    __table_args__ = (
        CheckConstraint("price >= 0", name="price_not_negative"),
        Index("ix_products_search", "search", postgresql_using="gin"),
        Index("ix_products_for_sale", "category", "sku", postgresql_where=text("active")),
    )

    sku: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    description: Mapped[str]
    category: Mapped[str]
    price: Mapped[int]
    currency: Mapped[str]
    package: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    active: Mapped[bool]
    version: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    search: Mapped[str] = mapped_column(
        TSVECTOR, Computed(_SEARCH, persisted=True), deferred=True, deferred_raiseload=True
    )

    @property
    def details(self) -> Details:
        return Details(
            self.name, self.description, self.category, self.price, self.currency, self.package
        )

    def change(self, details: Details, now: datetime) -> ProductUpdated | None:
        """Puts a withdrawn product back on sale; none if nothing is different."""
        if self.active and self.details == details:
            return None
        for field, value in asdict(details).items():
            setattr(self, field, value)
        return self._announce(now, active=True)

    def withdraw(self, now: datetime) -> ProductUpdated | None:
        """Takes the product off sale; none if it is off already."""
        return self._announce(now, active=False) if self.active else None

    def _announce(self, now: datetime, *, active: bool) -> ProductUpdated:
        self.active = active
        self.version += 1
        self.updated_at = now
        return self.as_event()

    def as_event(self) -> ProductUpdated:
        return ProductUpdated(
            sku=self.sku,
            product_version=self.version,
            name=self.name,
            category=self.category,
            price=self.price,
            currency=self.currency,
            active=self.active,
            occurred_at=self.updated_at,
        )
