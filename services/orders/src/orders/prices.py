"""Products and prices from `catalog`, cached in this process for seconds and beside it longer.

The shared level, in the sidecar's state store, spares `catalog` the calls of every replica; events
clear it. The times bound how long a changed price may still be charged.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress

from cachetools import TTLCache
from chassis.problems import Unavailable
from chassis.sidecar import SidecarUnavailable, sidecar
from contracts.catalog import ProductUpdated
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

MEMORY_SECONDS = 5
SHARED_SECONDS = 60  # a price that was read before a change may be shared after it


class Product(BaseModel):
    sku: str
    name: str
    price: int
    currency: str


class PriceQuestion(BaseModel):
    skus: list[str]


class PriceList(BaseModel):
    products: list[Product]


_memory: TTLCache[str, Product] = TTLCache(maxsize=10_000, ttl=MEMORY_SECONDS)


async def products(skus: Iterable[str]) -> dict[str, Product]:
    """The products that are for sale, by SKU; those unknown or withdrawn are absent.

    Raises `Unavailable` if a price is in neither cache and `catalog` does not answer.
    """
    wanted = set(skus)
    found = {sku: product for sku in wanted if (product := _memory.get(sku))}
    for source in (_from_state_store, _from_catalog):
        if missing := wanted - found.keys():
            fetched = await source(missing)
            _memory.update(fetched)  # and nothing else: writing a known price again renews its time
            found |= fetched
    return found


async def _from_state_store(skus: set[str]) -> dict[str, Product]:
    try:
        cached = await sidecar.get_states([_key(sku) for sku in skus])
    except SidecarUnavailable:
        return {}  # a cache that is away costs a call, not an order
    products = [Product.model_validate_json(value) for value in cached.values()]
    return {product.sku: product for product in products}


async def _from_catalog(skus: set[str]) -> dict[str, Product]:
    question = PriceQuestion(skus=sorted(skus)).model_dump_json().encode()
    reply = await sidecar.invoke("catalog", "internal/prices", method="POST", body=question)
    if not reply.ok:
        raise Unavailable("Prices cannot be had at the moment.")
    found = {p.sku: p for p in PriceList.model_validate_json(reply.body).products}
    await _share(found.values())
    return found


async def _share(products: Iterable[Product]) -> None:
    values = {_key(product.sku): product.model_dump_json().encode() for product in products}
    with suppress(SidecarUnavailable):
        await sidecar.save_states(values, ttl_seconds=SHARED_SECONDS)


async def forget_products(_: AsyncSession, events: Sequence[ProductUpdated]) -> None:
    """The shared level must go; the other replicas' memory follows within seconds.

    A store that is away holds up no event: what it keeps of the old prices expires soon.
    """
    for event in events:
        _memory.pop(event.sku, None)
    with suppress(SidecarUnavailable):
        await sidecar.delete_states([_key(event.sku) for event in events])


def _key(sku: str) -> str:
    return f"product:{sku}"


def forget_everything() -> None:
    """Empties the memory level."""
    _memory.clear()
