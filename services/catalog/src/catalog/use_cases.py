"""What staff do with the catalogue; each change and its event are one transaction."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from chassis.event_log import append
from chassis.problems import Conflict, NotFound
from sqlalchemy.ext.asyncio import AsyncSession

from catalog import store
from catalog.domain import Details, Product


class ProductNotFound(NotFound):
    pass


class SkuTaken(Conflict):
    pass


@dataclass(frozen=True)
class Imported:
    created: int
    updated: int
    unchanged: int


async def get_product(session: AsyncSession, sku: str) -> Product:
    """Raises `ProductNotFound` for a withdrawn product, as for one that never was."""
    return _found(await store.find(session, sku), sku)


async def add_product(session: AsyncSession, sku: str, details: Details) -> Product:
    product = await store.add(session, sku, details, datetime.now(UTC))
    if product is None:
        raise SkuTaken(f"There is a product {sku} already.")
    await append(session, product.as_event())
    return product


async def change_product(session: AsyncSession, sku: str, details: Details) -> Product:
    product = _found(await store.lock(session, sku), sku)
    if event := product.change(details, datetime.now(UTC)):
        await append(session, event)
    return product


async def withdraw_product(session: AsyncSession, sku: str) -> None:
    product = _found(await store.lock(session, sku), sku)
    if event := product.withdraw(datetime.now(UTC)):
        await append(session, event)


async def import_products(session: AsyncSession, products: Mapping[str, Details]) -> Imported:
    """Adds what is new and changes what is different; the same import again does nothing."""
    changed = await store.upsert(session, products, datetime.now(UTC))
    await append(session, *(product.as_event() for product in changed))
    created = sum(product.version == 1 for product in changed)
    return Imported(created, len(changed) - created, len(products) - len(changed))


def _found(product: Product | None, sku: str) -> Product:
    if product is None:
        raise ProductNotFound(f"There is no product {sku}.")
    return product
