"""Lists are answered a page at a time: what a caller asks for, what is read, what is answered."""

from collections.abc import Sequence
from typing import Annotated, Any, Generic, Self, TypeVar

from pydantic import BaseModel, Field
from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

T = TypeVar("T")


class PageQuery(BaseModel):
    """Bounded, so that no request reads a whole table or overflows PostgreSQL's integers."""

    page: Annotated[int, Field(ge=1, le=10_000)] = 1
    page_size: Annotated[int, Field(ge=1, le=100)] = 20

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.page_size


class Page(BaseModel, Generic[T]):
    """`total` counts the items of all pages."""

    items: list[T]
    page: int
    page_size: int
    total: int

    @classmethod
    def of(cls, query: PageQuery, rows: Sequence[Any], total: int) -> Self:
        """Answers `query` with rows that have the attributes of `T`."""
        page = {"items": rows, "page": query.page, "page_size": query.page_size, "total": total}
        return cls.model_validate(page, from_attributes=True)


async def fetch_page(
    session: AsyncSession, rows: Select[T], query: PageQuery
) -> tuple[Sequence[T], int]:
    """The page's share of `rows`, which have a total order, and how many there are in all."""
    total = await session.scalar(select(func.count()).select_from(rows.order_by(None).subquery()))
    page = rows.offset(query.offset).limit(query.page_size)
    return (await session.scalars(page)).all(), total or 0
