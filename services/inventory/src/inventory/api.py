"""HTTP in: what is in stock, and booking units in."""

from typing import Annotated

from chassis.database import Session
from chassis.idempotency import RequestKey, once
from chassis.identity import Staff
from chassis.paging import Page, PageQuery
from fastapi import APIRouter, Path, Query, Response
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    StringConstraints,
)

from inventory import store, use_cases
from inventory.store import Receipt

router = APIRouter(prefix="/inventory", tags=["inventory"])

MAX_IMPORT_LINES = 500

SkuCode = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9][A-Z0-9-]{0,63}$")]
WarehouseName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
SkuPath = Annotated[SkuCode, Path()]
Units = Annotated[int, Field(le=1_000_000, strict=True)]


class StockRead(BaseModel):
    """Units over all warehouses."""

    model_config = ConfigDict(from_attributes=True)

    sku: str
    available: int
    reserved: int
    low_stock_threshold: int


class WarehouseStockRead(BaseModel):
    """The units that a warehouse ever received, and where they are."""

    model_config = ConfigDict(from_attributes=True)

    warehouse: str
    received: int
    available: int
    reserved: int
    dispatched: int


class StockQuery(PageQuery):
    low: bool = False


class Restock(BaseModel):
    quantity: Annotated[Units, Field(ge=1)]
    warehouse: WarehouseName = use_cases.MAIN_WAREHOUSE


class ThresholdUpdate(BaseModel):
    low_stock_threshold: Annotated[Units, Field(ge=0)]


class ImportLine(BaseModel):
    sku: SkuCode
    quantity: Annotated[Units, Field(ge=0)]
    low_stock_threshold: Annotated[Units, Field(ge=0)]


def _no_sku_twice(lines: list[ImportLine]) -> list[ImportLine]:
    if len({line.sku for line in lines}) < len(lines):
        raise ValueError("a SKU may appear in one line only")
    return lines


class StockImport(RootModel[list[ImportLine]]):
    root: Annotated[
        list[ImportLine],
        Field(min_length=1, max_length=MAX_IMPORT_LINES),
        AfterValidator(_no_sku_twice),
    ]


class ImportRead(BaseModel):
    imported: int


@router.get("")
async def list_stock(session: Session, query: Annotated[StockQuery, Query()]) -> Page[StockRead]:
    """By SKU; with `low`, only those at their threshold or below."""
    found, total = await store.page(session, query, low=query.low)
    return Page[StockRead].of(query, found, total)


@router.post("/import", response_model=ImportRead)
async def import_stock(
    body: StockImport, caller: Staff, key: RequestKey, session: Session
) -> Response:
    """Books units into the main warehouse and sets thresholds, for many SKUs at once."""

    async def effect() -> ImportRead:
        await use_cases.import_stock(
            session,
            {line.sku: line.quantity for line in body.root},
            {line.sku: line.low_stock_threshold for line in body.root},
        )
        return ImportRead(imported=len(body.root))

    return await once(session, caller.user_id, key, body, effect, status=200)


@router.get("/{sku}")
async def get_stock(sku: SkuPath, session: Session) -> StockRead:
    return StockRead.model_validate(await use_cases.get_stock(session, sku))


@router.get("/{sku}/warehouses")
async def get_stock_by_warehouse(
    sku: SkuPath, _: Staff, session: Session
) -> list[WarehouseStockRead]:
    await use_cases.get_stock(session, sku)
    return [WarehouseStockRead.model_validate(row) for row in await store.stock_of(session, sku)]


@router.post("/{sku}/restock", response_model=StockRead)
async def restock(
    sku: SkuPath, body: Restock, caller: Staff, key: RequestKey, session: Session
) -> Response:
    async def effect() -> StockRead:
        receipt = Receipt(sku, body.warehouse, body.quantity)
        return StockRead.model_validate(await use_cases.restock(session, receipt))

    request = f"restock {sku} {body.model_dump_json()}"
    return await once(session, caller.user_id, key, request, effect, status=200)


@router.put("/{sku}")
async def set_threshold(
    sku: SkuPath, body: ThresholdUpdate, _: Staff, session: Session
) -> StockRead:
    threshold = body.low_stock_threshold
    return StockRead.model_validate(await use_cases.set_threshold(session, sku, threshold))
