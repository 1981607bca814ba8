"""HTTP in: placing, reading and cancelling orders."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from chassis.database import Session
from chassis.idempotency import RequestKey, once
from chassis.identity import Caller, NotAllowed, Staff, User
from chassis.paging import Page, PageQuery
from chassis.problems import Problem
from contracts.orders import Address, OrderLine, OrderStatus, Package
from fastapi import APIRouter, Depends, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import ColumnElement, and_, true

from orders import store, use_cases
from orders.backlog import room_for_an_order
from orders.domain import Draft, Order
from orders.prices import Product, products

router = APIRouter(prefix="/orders", tags=["orders"])

MAX_LINES = 50
MAX_QUANTITY = 1_000
MAX_TOTAL = 99_999_999  # what the payment provider takes at once

Line = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")
]
Kilograms = Annotated[float, Field(gt=0, le=1_000)]
Centimetres = Annotated[float, Field(gt=0, le=1_000)]


class Item(BaseModel):
    sku: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    quantity: Annotated[int, Field(ge=1, le=MAX_QUANTITY, strict=True)]


def _no_sku_twice(items: list[Item]) -> list[Item]:
    if len({item.sku for item in items}) < len(items):
        raise ValueError("a SKU may appear in one line only")
    return items


class ShippingAddress(BaseModel):
    line1: Line
    city: Line
    postal_code: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=20)
    ]
    country: Annotated[str, StringConstraints(pattern="^[A-Z]{2}$")]


class PackageSize(BaseModel):
    weight_kg: Kilograms
    length_cm: Centimetres
    width_cm: Centimetres
    height_cm: Centimetres


class OrderCreate(BaseModel):
    items: Annotated[
        list[Item], Field(min_length=1, max_length=MAX_LINES), AfterValidator(_no_sku_twice)
    ]
    shipping_address: ShippingAddress
    payment_method: Annotated[str, StringConstraints(pattern=r"^pm_[A-Za-z0-9_]{1,60}$")]
    package: PackageSize | None = None


class ItemRead(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    sku: str
    name: str
    quantity: int
    unit_price: int


class OrderRead(BaseModel):
    """Amounts are in minor units of `currency`."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    user_id: UUID
    status: OrderStatus
    total: int
    currency: str
    items: list[ItemRead]
    shipping_address: ShippingAddress
    package: PackageSize | None
    tracking_number: str | None
    payment_id: UUID | None
    cancellation_reason: str | None
    refunded: int
    created_at: datetime
    updated_at: datetime


class HistoryRead(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    status: OrderStatus
    note: str
    occurred_at: datetime


class OrderDetail(OrderRead):
    history: list[HistoryRead]

    @classmethod
    def of(cls, order: Order, history: Sequence[Any]) -> Self:
        return cls.model_validate(
            {**OrderRead.model_validate(order).model_dump(), "history": history},
            from_attributes=True,
        )


class StatusUpdate(BaseModel):
    status: OrderStatus


class OrderQuery(PageQuery):
    status: OrderStatus | None = None


class UnknownProduct(Problem):
    status = 422


class MixedCurrencies(Problem):
    status = 422


class NotPayable(Problem):
    status = 422


def _own(caller: Caller) -> ColumnElement[bool]:
    """Ownership is a part of the query: someone else's order does not exist."""
    return true() if caller.is_staff else Order.user_id == caller.user_id


@router.post(
    "", status_code=201, response_model=OrderRead, dependencies=[Depends(room_for_an_order)]
)
async def create_order(
    body: OrderCreate, caller: User, key: RequestKey, session: Session
) -> Response:
    # Before the transaction's first statement: no connection is held while catalog is asked.
    catalogue = await products(item.sku for item in body.items)

    async def effect() -> OrderRead:
        order = await use_cases.place_order(session, _draft(body, caller, catalogue))
        return OrderRead.model_validate(order)

    return await once(session, caller.user_id, key, body, effect)


def _draft(body: OrderCreate, caller: Caller, catalogue: Mapping[str, Product]) -> Draft:
    lines = tuple(_line(index, item, catalogue) for index, item in enumerate(body.items))
    currencies = {catalogue[item.sku].currency for item in body.items}
    if len(currencies) > 1:
        raise MixedCurrencies(f"One order, one currency; these are in {sorted(currencies)}.")
    draft = Draft(
        user_id=caller.user_id,
        lines=lines,
        currency=currencies.pop(),
        shipping_address=Address(**body.shipping_address.model_dump()),
        payment_method=body.payment_method,
        package=Package(**body.package.model_dump()) if body.package else None,
    )
    if not 0 < draft.total <= MAX_TOTAL:
        raise NotPayable(f"A card can be charged 1 to {MAX_TOTAL} minor units, not {draft.total}.")
    return draft


def _line(index: int, item: Item, catalogue: Mapping[str, Product]) -> OrderLine:
    product = catalogue.get(item.sku)
    if product is None:
        violation = {"field": f"items.{index}.sku", "in": "body", "rule": "known_product"}
        raise UnknownProduct(f"There is no product {item.sku!r} for sale.", errors=[violation])
    return OrderLine(
        sku=item.sku, name=product.name, quantity=item.quantity, unit_price=product.price
    )


@router.get("")
async def list_orders(
    caller: User, session: Session, query: Annotated[OrderQuery, Query()]
) -> Page[OrderRead]:
    return await _page(session, _own(caller), query)


@router.get("/user/{user_id}")
async def list_orders_of_user(
    user_id: UUID, caller: User, session: Session, query: Annotated[OrderQuery, Query()]
) -> Page[OrderRead]:
    if not caller.is_staff and caller.user_id != user_id:
        raise NotAllowed("These are someone else's orders.")
    return await _page(session, Order.user_id == user_id, query)


async def _page(
    session: Session, visible: ColumnElement[bool], query: OrderQuery
) -> Page[OrderRead]:
    wanted = and_(visible, Order.status == query.status) if query.status else visible
    orders, total = await store.page(session, wanted, query)
    return Page[OrderRead].of(query, orders, total)


@router.get("/{order_id}")
async def get_order(order_id: UUID, caller: User, session: Session) -> OrderDetail:
    order = await use_cases.get_order(session, order_id, _own(caller))
    return OrderDetail.of(order, await store.history_of(session, order))


@router.put("/{order_id}/status")
async def set_status(
    order_id: UUID, body: StatusUpdate, _: Staff, session: Session, response: Response
) -> OrderRead:
    """202 if the order is `cancelling` where it was to be cancelled: tracking decides."""
    order = await use_cases.set_status(session, order_id, body.status)
    response.status_code = 200 if order.status == body.status else 202
    return OrderRead.model_validate(order)


@router.delete("/{order_id}", responses={202: {"model": OrderRead}})
async def cancel_order(
    order_id: UUID, caller: User, session: Session, response: Response
) -> OrderRead:
    """200 when the order is cancelled, 202 while tracking decides whether it still can be."""
    order = await use_cases.cancel_order(session, order_id, _own(caller))
    response.status_code = 202 if order.status == OrderStatus.CANCELLING else 200
    return OrderRead.model_validate(order)
