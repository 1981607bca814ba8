"""HTTP in: carriers' scans, customers' shipments, and the public's look at a parcel."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from chassis.database import Session
from chassis.event_log import append
from chassis.idempotency import RequestKey, once
from chassis.identity import Caller, Role, User, require
from chassis.paging import Page, PageQuery
from chassis.problems import NotFound
from contracts.tracking import ShipmentStatus
from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, ConfigDict, StringConstraints
from sqlalchemy import ColumnElement, and_, true

from tracking import store
from tracking.domain import Scan, Shipment
from tracking.tracking_numbers import parse_tracking_number

shipments = APIRouter(prefix="/shipments", tags=["shipments"])
tracking = APIRouter(prefix="/tracking", tags=["tracking"])

Carrier = Annotated[Caller, Depends(require(Role.CARRIER, Role.STAFF, Role.ADMIN))]

# What carriers write is shown to the public, in one line.
Line = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$"
    ),
]


class ScanCreate(BaseModel):
    status: Literal[
        ShipmentStatus.PICKED_UP,
        ShipmentStatus.IN_TRANSIT,
        ShipmentStatus.OUT_FOR_DELIVERY,
        ShipmentStatus.DELIVERED,
    ]
    location: Line
    description: Line | None = None


class ScanRead(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    status: ShipmentStatus
    location: str
    description: str | None
    recorded_at: datetime


class AddressRead(BaseModel):
    line1: str
    city: str
    postal_code: str
    country: str


class ShipmentRead(BaseModel):
    """`version` is the number of scans; `status` the furthest of them."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    order_id: UUID
    tracking_number: str
    status: ShipmentStatus
    version: int
    shipping_address: AddressRead
    created_at: datetime
    updated_at: datetime


class ShipmentDetail(ShipmentRead):
    events: list[ScanRead]

    @classmethod
    def of(cls, shipment: Shipment, scans: Sequence[Scan]) -> Self:
        known = ShipmentRead.model_validate(shipment).model_dump()
        return cls.model_validate({**known, "events": scans}, from_attributes=True)


class TrackingRead(BaseModel):
    """What anyone who has the number may see: nothing of who gets the parcel, or where."""

    tracking_number: str
    status: ShipmentStatus
    events: list[ScanRead]


class ShipmentQuery(PageQuery):
    order_id: UUID | None = None


class ShipmentNotFound(NotFound):
    pass


def _visible(caller: Caller) -> ColumnElement[bool]:
    """Ownership is a part of the query: someone else's shipment does not exist."""
    sees_all = caller.is_staff or caller.role == Role.CARRIER
    return true() if sees_all else Shipment.user_id == caller.user_id


async def _get(session: Session, which: ColumnElement[bool], **options: Any) -> Shipment:
    shipment = await store.find(session, which, **options)
    if shipment is None:
        raise ShipmentNotFound("There is no such shipment.")
    return shipment


@shipments.get("")
async def list_shipments(
    caller: User, session: Session, query: Annotated[ShipmentQuery, Query()]
) -> Page[ShipmentRead]:
    visible = _visible(caller)
    which = and_(visible, Shipment.order_id == query.order_id) if query.order_id else visible
    found, total = await store.page(session, which, query)
    return Page[ShipmentRead].of(query, found, total)


@shipments.get("/{shipment_id}")
async def get_shipment(shipment_id: UUID, caller: User, session: Session) -> ShipmentDetail:
    shipment = await _get(session, and_(_visible(caller), Shipment.id == shipment_id))
    return ShipmentDetail.of(shipment, await store.scans_of(session, shipment))


@shipments.post("/{shipment_id}/events", status_code=201, response_model=ShipmentRead)
async def add_scan(
    shipment_id: UUID, body: ScanCreate, caller: Carrier, key: RequestKey, session: Session
) -> Response:
    """A late scan is kept too, but never moves the shipment backwards."""

    async def effect() -> ShipmentRead:
        shipment = await _get(session, Shipment.id == shipment_id, lock=True)
        scan = Scan(shipment_id=shipment.id, recorded_at=datetime.now(UTC), **body.model_dump())
        await append(session, shipment.scan(scan))
        session.add(scan)
        return ShipmentRead.model_validate(shipment)

    request = f"scan {shipment_id} {body.model_dump_json()}"
    return await once(session, caller.user_id, key, request, effect)


@tracking.get("/{tracking_number}")
async def track(
    tracking_number: Annotated[str, Path(max_length=40)], session: Session
) -> TrackingRead:
    """Case, spaces and hyphens do not matter. A mistyped number is not looked for."""
    number = parse_tracking_number(tracking_number)
    if number is None:
        raise ShipmentNotFound("This is not a tracking number; please check what you typed.")
    shipment = await _get(session, Shipment.tracking_number == number)
    return TrackingRead(
        tracking_number=number,
        status=ShipmentStatus(str(shipment.status)),
        events=[ScanRead.model_validate(scan) for scan in await store.scans_of(session, shipment)],
    )
