"""HTTP in: browsing and searching the catalogue, keeping it, and the prices `orders` asks for."""

import re
from datetime import datetime
from typing import Annotated

from chassis.database import Session
from chassis.identity import Staff, require_app_token
from chassis.paging import Page, PageQuery
from fastapi import APIRouter, Depends, Path, Query, Response
from iso4217 import Currency
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from catalog import store, use_cases
from catalog.domain import Details

router = APIRouter(prefix="/products", tags=["products"])
internal = APIRouter(
    prefix="/internal", include_in_schema=False, dependencies=[Depends(require_app_token)]
)

MAX_PRICE = 100_000_000
MAX_IMPORT = 500
MAX_PRICED = 100

SKU = r"^[A-Z0-9][A-Z0-9-]{0,63}$"
_MINOR_UNITS = {c.value: c.exponent for c in Currency}


def _spendable(code: str) -> str:
    """A currency of ISO 4217 that has minor units: no metals, no test codes."""
    if _MINOR_UNITS.get(code) is None:
        raise ValueError("no currency in use has this ISO 4217 code")
    return code


Sku = Annotated[str, StringConstraints(pattern=SKU)]
SkuInPath = Annotated[str, Path(pattern=SKU)]
CurrencyCode = Annotated[
    str, StringConstraints(min_length=3, max_length=3), AfterValidator(_spendable)
]
# No control characters: a NUL is more than PostgreSQL's text takes.
Line = StringConstraints(strip_whitespace=True, min_length=1, pattern=r"^[^\x00-\x1f\x7f]+$")
Name = Annotated[str, Line, Field(max_length=200)]
Category = Annotated[str, Line, Field(max_length=100)]
Text = Annotated[str, StringConstraints(max_length=5_000, pattern=r"^[^\x00]*$")]
Centimetres = Annotated[float, Field(gt=0, le=1_000)]


class PackageSize(BaseModel):
    weight_kg: Annotated[float, Field(gt=0, le=1_000)]
    length_cm: Centimetres
    width_cm: Centimetres
    height_cm: Centimetres


class ProductWrite(BaseModel):
    """`price` is in minor units of `currency`; `package` is what one unit weighs and measures."""

    name: Name
    description: Text = ""
    category: Category
    price: Annotated[int, Field(ge=0, le=MAX_PRICE, strict=True)]
    currency: CurrencyCode
    package: PackageSize | None = None

    def details(self) -> Details:
        return Details(**self.model_dump(exclude={"sku"}))


class ProductCreate(ProductWrite):
    sku: Sku


def _no_sku_twice(products: list[ProductCreate]) -> list[ProductCreate]:
    if len({product.sku for product in products}) < len(products):
        raise ValueError("a SKU may appear once only")
    return products


class ProductImport(BaseModel):
    products: Annotated[
        list[ProductCreate],
        Field(min_length=1, max_length=MAX_IMPORT),
        AfterValidator(_no_sku_twice),
    ]


class ProductRead(BaseModel):
    """`price` is in minor units of `currency`."""

    model_config = ConfigDict(from_attributes=True)

    sku: str
    name: str
    description: str
    category: str
    price: int
    currency: str
    package: PackageSize | None
    version: int
    created_at: datetime
    updated_at: datetime


class ImportRead(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    created: int
    updated: int
    unchanged: int


class ProductQuery(PageQuery):
    """`q` finds the beginnings of words in name, SKU, category and description."""

    q: Annotated[str, Line, Field(max_length=100)] | None = None
    category: Category | None = None


class PriceQuestion(BaseModel):
    """Any text may be asked for: a customer typed it, and what is no SKU is not for sale."""

    skus: Annotated[list[str], Field(max_length=MAX_PRICED)]


class PriceRead(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    sku: str
    name: str
    price: int
    currency: str


class PriceList(BaseModel):
    products: list[PriceRead]


@router.get("")
async def list_products(
    session: Session, query: Annotated[ProductQuery, Query()]
) -> Page[ProductRead]:
    products, total = await store.page(session, query.q, query.category, query)
    return Page[ProductRead].of(query, products, total)


@router.get("/{sku}")
async def get_product(sku: SkuInPath, session: Session) -> ProductRead:
    return ProductRead.model_validate(await use_cases.get_product(session, sku))


@router.post("", status_code=201)
async def create_product(body: ProductCreate, _: Staff, session: Session) -> ProductRead:
    product = await use_cases.add_product(session, body.sku, body.details())
    return ProductRead.model_validate(product)


@router.post("/import")
async def import_products(body: ProductImport, _: Staff, session: Session) -> ImportRead:
    products = {product.sku: product.details() for product in body.products}
    return ImportRead.model_validate(await use_cases.import_products(session, products))


@router.put("/{sku}")
async def replace_product(
    sku: SkuInPath, body: ProductWrite, _: Staff, session: Session
) -> ProductRead:
    """Puts a withdrawn product back on sale."""
    product = await use_cases.change_product(session, sku, body.details())
    return ProductRead.model_validate(product)


@router.delete("/{sku}", status_code=204, response_class=Response)
async def withdraw_product(sku: SkuInPath, _: Staff, session: Session) -> None:
    await use_cases.withdraw_product(session, sku)


@internal.post("/prices")
async def price_products(question: PriceQuestion, session: Session) -> PriceList:
    """Those that are for sale; the others are absent."""
    skus = {sku for sku in question.skus if re.fullmatch(SKU, sku)}
    products = await store.for_sale(session, skus)
    return PriceList(products=[PriceRead.model_validate(product) for product in products])
