"""Named queries over products."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from chassis.paging import PageQuery, fetch_page
from sqlalchemy import ColumnElement, Select, func, or_, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.dialects.postgresql.ext import plainto_tsquery, to_tsquery
from sqlalchemy.ext.asyncio import AsyncSession

from catalog.domain import Details, Product

_DETAILS = [field.name for field in fields(Details)]


async def find(session: AsyncSession, sku: str) -> Product | None:
    return await session.scalar(select(Product).where(Product.sku == sku, Product.active))


async def lock(session: AsyncSession, sku: str) -> Product | None:
    """Withdrawn products too."""
    return await session.get(Product, sku, with_for_update=True)


async def for_sale(session: AsyncSession, skus: Collection[str]) -> Sequence[Product]:
    query = select(Product).where(Product.sku.in_(skus), Product.active)
    return (await session.scalars(query)).all()


async def add(session: AsyncSession, sku: str, details: Details, now: datetime) -> Product | None:
    """None if the SKU is taken, by a withdrawn product perhaps."""
    statement = insert(Product).values(_new(sku, details, now))
    return await session.scalar(statement.on_conflict_do_nothing().returning(Product))


async def upsert(
    session: AsyncSession, products: Mapping[str, Details], now: datetime
) -> Sequence[Product]:
    """Adds or changes them in one statement; returns those that are different now.

    They are written in the order of their SKUs, so that two imports cannot deadlock.
    """
    statement = insert(Product)
    new = statement.excluded
    before = tuple_(*(getattr(Product, field) for field in _DETAILS))
    after = tuple_(*(new[field] for field in _DETAILS))
    statement = statement.on_conflict_do_update(
        index_elements=[Product.sku],
        set_={field: new[field] for field in _DETAILS}
        | {"active": True, "version": Product.version + 1, "updated_at": now},
        where=or_(before.is_distinct_from(after), ~Product.active),
    )
    rows = [_new(sku, products[sku], now) for sku in sorted(products)]
    return (await session.scalars(statement.returning(Product), rows)).all()


def _new(sku: str, details: Details, now: datetime) -> dict[str, Any]:
    first = {"active": True, "version": 1, "created_at": now, "updated_at": now}
    return {"sku": sku, **asdict(details), **first}


async def page(
    session: AsyncSession, text: str | None, category: str | None, query: PageQuery
) -> tuple[Sequence[Product], int]:
    """What is for sale, best match first, and how many there are in all.

    Products that match equally well are in the order of their SKUs, so pages neither overlap nor
    leave a gap.
    """
    wanted = select(Product).where(Product.active)
    if category is not None:
        wanted = wanted.where(Product.category == category)
    if text is not None:
        wanted = _best_first(wanted, _search_for(text))
    return await fetch_page(session, wanted.order_by(Product.sku), query)


def _best_first(products: Select[Product], search: ColumnElement[Any]) -> Select[Product]:
    matching = products.where(Product.search.bool_op("@@")(search))
    return matching.order_by(func.ts_rank(Product.search, search).desc())


def _search_for(text: str) -> ColumnElement[Any]:
    """Products in which every word of the text begins a word, or which an English reader means."""
    beginnings = " & ".join(f"{word}:*" for word in re.findall(r"\w+", text))
    return to_tsquery("simple", beginnings).bool_op("||")(plainto_tsquery("english", text))
