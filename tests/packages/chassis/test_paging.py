"""Pages: bounded, adjacent, and counted as a whole."""

from uuid import UUID

import pytest
from chassis.database import database
from chassis.paging import Page, PageQuery, fetch_page
from chassis.tables import SeenEvent
from pydantic import BaseModel, ValidationError
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

IDS = [UUID(int=n) for n in range(5)]
IN_ORDER = select(SeenEvent).where(SeenEvent.event_id.in_(IDS)).order_by(SeenEvent.event_id)


class SeenRead(BaseModel):
    event_id: UUID


@pytest.fixture
async def five_rows(db: AsyncConnection) -> None:
    async with database.transaction() as session:
        session.add_all(SeenEvent(event_id=event_id) for event_id in IDS)


async def answered(query: PageQuery) -> Page[SeenRead]:
    async with database.transaction() as session:
        return Page[SeenRead].of(query, *await fetch_page(session, IN_ORDER, query))


@pytest.mark.parametrize(
    "bounds", [{"page": 0}, {"page": 10_001}, {"page_size": 0}, {"page_size": 101}]
)
def test_a_page_beyond_the_bounds_is_refused(bounds: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        PageQuery(**bounds)


def test_unless_asked_otherwise_a_page_is_the_first_twenty() -> None:
    query = PageQuery()
    assert (query.page, query.page_size, query.offset) == (1, 20, 0)


@pytest.mark.usefixtures("five_rows")
async def test_pages_neither_overlap_nor_leave_a_gap() -> None:
    pages = [await answered(PageQuery(page=n, page_size=2)) for n in (1, 2, 3, 4)]
    assert [len(page.items) for page in pages] == [2, 2, 1, 0]
    assert [item.event_id for page in pages for item in page.items] == IDS
    assert {page.total for page in pages} == {5}


@pytest.mark.usefixtures("five_rows")
async def test_the_answer_repeats_what_was_asked() -> None:
    page = await answered(PageQuery(page=3, page_size=2))
    assert page.model_dump(mode="json") == {
        "items": [{"event_id": str(IDS[4])}],
        "page": 3,
        "page_size": 2,
        "total": 5,
    }
