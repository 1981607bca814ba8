"""Puts goods on the shelves: a small catalogue to read, or a large one for load."""

import asyncio
import hashlib
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from waybill.credentials import load
from waybill.processes import output
from waybill.project import Project
from waybill.shop import Json, Person, Shop

_BATCH = 500
_ACCOUNT_SECONDS = 180
"""A machine may be busy, and Argon2id is dear."""


@dataclass(frozen=True)
class Goods:
    sku: str
    name: str
    category: str
    price: int
    stock: int
    threshold: int = 5

    @property
    def product(self) -> Json:
        return {
            "sku": self.sku,
            "name": self.name,
            "category": self.category,
            "price": self.price,
            "currency": "EUR",
        }

    @property
    def delivery(self) -> Json:
        return {
            "sku": self.sku,
            "quantity": self.stock,
            "low_stock_threshold": self.threshold,
        }


SOLD_OUT = "SEXTANT-BRASS"

DEMO_GOODS = (
    Goods("ATLAS-WORLD", "World atlas, cloth bound", "books", 5_900, 400),
    Goods("ALMANAC-2027", "Nautical almanac 2027", "books", 2_450, 500),
    Goods("COMPASS-POCKET", "Pocket compass", "instruments", 3_200, 600),
    Goods("BAROMETER-WALL", "Aneroid barometer", "instruments", 11_800, 300, threshold=299),
    Goods(SOLD_OUT, "Brass sextant", "instruments", 48_000, 0),
    Goods("LANTERN-STORM", "Storm lantern", "deck", 4_100, 350),
    Goods("ROPE-HEMP-20", "Hemp rope, 20 m", "deck", 1_900, 800),
    Goods("KNIFE-DECK", "Deck knife, stainless", "deck", 2_750, 450),
    Goods("SWEATER-WOOL", "Fisherman's sweater", "clothing", 9_500, 220, threshold=25),
    Goods("BOOTS-RUBBER", "Rubber boots", "clothing", 6_400, 180, threshold=30),
    Goods("MUG-ENAMEL", "Enamel mug", "galley", 1_250, 1_000),
    Goods("KETTLE-STEEL", "Steel kettle", "galley", 3_900, 260),
)


def numbered_goods(skus: int, stock: int) -> tuple[Goods, ...]:
    """`SKU-0001`, `SKU-0002`, … with `stock` units each."""
    return tuple(
        Goods(f"SKU-{number:04}", f"Article {number}", "load", 1_000 + number, stock)
        for number in range(1, skus + 1)
    )


async def seed(project: Project, shop: Shop, goods: Sequence[Goods]) -> None:
    """Lists the goods and delivers their first stock; running it again changes nothing."""
    await ensure_accounts(project)
    staff = await shop.staff("staff")
    for batch in _batches(goods):
        products = {"products": [item.product for item in batch]}
        await shop.ask("POST", "products/import", person=staff, body=products)
        await _deliver(shop, staff, batch)


async def _deliver(shop: Shop, staff: Person, batch: Sequence[Goods]) -> None:
    body = [item.delivery for item in batch]
    key = f"seed:{hashlib.sha256(repr(body).encode()).hexdigest()}"  # the same goods arrive once
    await shop.ask("POST", "inventory/import", person=staff, body=body, key=key)


def _batches(goods: Iterable[Goods]) -> Iterable[Sequence[Goods]]:
    rest = iter(goods)
    while batch := tuple(islice(rest, _BATCH)):
        yield batch


async def ensure_accounts(project: Project) -> None:
    """The admin, staff and carrier accounts, with the passwords of this checkout's secrets."""
    accounts = load(project).staff.items()
    await asyncio.gather(*(_create_account(project, *account) for account in accounts))


async def _create_account(project: Project, email: str, password: str) -> None:
    role = email.partition("@")[0]
    await output(
        *(sys.executable, "-m", "users.create_account"),
        *("--email", email, "--role", role, "--name", role.capitalize()),
        stdin=f"{password}\n",
        cwd=project.root,
        env=os.environ | project.app("users").env,
        seconds=_ACCOUNT_SECONDS,
    )
