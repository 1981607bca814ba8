"""Events of `tracking`."""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from contracts.event import Event


class ShipmentStatus(StrEnum):
    CREATED = "created"
    PICKED_UP = "picked_up"
    IN_TRANSIT = "in_transit"
    OUT_FOR_DELIVERY = "out_for_delivery"
    DELIVERED = "delivered"
    VOIDED = "voided"


class ShipmentEvent(Event):
    order_id: UUID
    user_id: UUID
    occurred_at: datetime


class ShipmentCreated(ShipmentEvent):
    topic: ClassVar[str] = "shipment.created"

    shipment_id: UUID
    tracking_number: str


class ShipmentUpdated(ShipmentEvent):
    """A scan, or the answer to a cancellation that came too late: the parcel is on its way.

    `status` is the furthest that the shipment has come; `shipment_version` grows with each scan.
    """

    topic: ClassVar[str] = "shipment.updated"

    shipment_id: UUID
    shipment_version: int
    tracking_number: str
    status: ShipmentStatus
    location: str | None = None
    description: str | None = None


class ShipmentVoided(ShipmentEvent):
    """The parcel was stopped, or never made: `shipment_id` is then absent."""

    topic: ClassVar[str] = "shipment.voided"

    shipment_id: UUID | None = None
