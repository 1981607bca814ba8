"""HTTP in: reading, confirming and refunding payments."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from chassis.database import Session
from chassis.idempotency import RequestKey, once
from chassis.identity import Caller, Staff, User
from chassis.paging import Page, PageQuery
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import ColumnElement, and_

from payments import store, use_cases
from payments.domain import Payment, PaymentStatus, Refund, RefundStatus

router = APIRouter(prefix="/payments", tags=["payments"])


class PaymentRead(BaseModel):
    """Amounts are in minor units of `currency`."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    order_id: UUID
    user_id: UUID
    status: PaymentStatus
    amount: int
    currency: str
    refunded: int
    failure_reason: str | None
    created_at: datetime
    decided_at: datetime | None


class RefundRead(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    payment_id: UUID
    amount: int
    reason: str | None
    status: RefundStatus
    created_at: datetime
    decided_at: datetime | None


class PaymentDetail(PaymentRead):
    """`client_secret` opens the provider's page to the customer; nobody else is given it."""

    client_secret: str | None
    refunds: list[RefundRead]

    @classmethod
    def of(cls, payment: Payment, refunds: Sequence[Refund], caller: Caller) -> Self:
        own = caller.user_id == payment.user_id
        return cls(
            **PaymentRead.model_validate(payment).model_dump(),
            client_secret=payment.client_secret if own else None,
            refunds=[RefundRead.model_validate(refund) for refund in refunds],
        )


class PaymentQuery(PageQuery):
    order_id: UUID | None = None


class RefundCreate(BaseModel):
    """Without an amount, all that is left."""

    amount: Annotated[int, Field(ge=1, le=10**12, strict=True)] | None = None
    reason: Annotated[str, StringConstraints(min_length=1, max_length=500)] | None = None


def _visible(caller: Caller) -> ColumnElement[bool]:
    """Ownership is a part of the query. What only waits for its order is nobody's payment yet."""
    if caller.is_staff:
        return Payment.user_id.is_not(None)
    return Payment.user_id == caller.user_id


@router.get("")
async def list_payments(
    caller: User, session: Session, query: Annotated[PaymentQuery, Query()]
) -> Page[PaymentRead]:
    visible = _visible(caller)
    wanted = and_(visible, Payment.order_id == query.order_id) if query.order_id else visible
    payments, total = await store.page(session, wanted, query)
    return Page[PaymentRead].of(query, payments, total)


@router.get("/{payment_id}")
async def get_payment(payment_id: UUID, caller: User, session: Session) -> PaymentDetail:
    payment = await use_cases.get_payment(session, payment_id, _visible(caller))
    return PaymentDetail.of(payment, await store.refunds_of(session, payment), caller)


@router.post("/{payment_id}/confirm", status_code=202, response_model=PaymentDetail)
async def confirm_payment(
    payment_id: UUID, caller: User, key: RequestKey, session: Session
) -> Response:
    """For the customer who has done what their bank asked; the payment then tells the outcome."""

    async def effect() -> PaymentDetail:
        payment = await use_cases.confirm(session, payment_id, Payment.user_id == caller.user_id)
        return PaymentDetail.of(payment, [], caller)

    request = f"confirm {payment_id}"
    return await once(session, caller.user_id, key, request, effect, status=202)


@router.post("/{payment_id}/refunds", status_code=201, response_model=RefundRead)
async def create_refund(
    payment_id: UUID, body: RefundCreate, caller: Staff, key: RequestKey, session: Session
) -> Response:
    """The money is set aside at once and given back soon after."""

    async def effect() -> RefundRead:
        refund = await use_cases.request_refund(session, payment_id, body.amount, body.reason)
        return RefundRead.model_validate(refund)

    request = f"refund {payment_id} {body.model_dump_json()}"
    return await once(session, caller.user_id, key, request, effect)
