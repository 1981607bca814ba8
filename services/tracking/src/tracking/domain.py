"""The shipment: when there is one, how far it has come, and when it can still be stopped."""

from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.problems import Conflict
from chassis.tables import Base, new_id
from contracts.tracking import (
    ShipmentCreated,
    ShipmentEvent,
    ShipmentStatus,
    ShipmentUpdated,
    ShipmentVoided,
)
from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from tracking.tracking_numbers import new_tracking_number

S = ShipmentStatus

# A parcel's way. Scans arrive in any order; the shipment is as far as the furthest of them.
WAY = (S.CREATED, S.PICKED_UP, S.IN_TRANSIT, S.OUT_FOR_DELIVERY, S.DELIVERED)


class ShipmentIsVoided(Conflict):
    pass


class Shipment(Base):
    """All that is known of an order's parcel; there is one row for each order.

    It starts as what the order's events tell, in any order. It is made, with a tracking number,
    when it is known where it goes (the order was created) and that it is wanted (the order is
    processed). Until then, and for ever if it was voided first, it has no tracking number.
    """

    __tablename__ = "shipments"
    __table_args__ = (
        CheckConstraint(
            "tracking_number IS NULL OR shipping_address IS NOT NULL AND is_wanted",
            name="made_when_complete",
        ),
        Index("ix_shipments_user_id_id", "user_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    order_id: Mapped[UUID] = mapped_column(unique=True)
    user_id: Mapped[UUID]
    shipping_address: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    is_wanted: Mapped[bool]
    tracking_number: Mapped[str | None] = mapped_column(unique=True)
    status: Mapped[str | None]
    version: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[datetime | None]
    updated_at: Mapped[datetime | None]

    def supply(self, now: datetime) -> ShipmentEvent | None:
        """Makes the shipment if all is known; tells, now or again, what has become of it."""
        if self.status is None and self.is_wanted and self.shipping_address:
            self.tracking_number = new_tracking_number()
            self.created_at = now
            self._become(S.CREATED, now)
        match self.status:
            case None:
                return None
            case S.VOIDED:
                return self._voided()
            case _:
                return self._created()

    def stop(self, now: datetime) -> ShipmentEvent:
        """Answers whether the parcel could be stopped: it is voided, or it is on its way."""
        if self.is_on_its_way:
            return self._updated()
        if self.status != S.VOIDED:
            self._become(S.VOIDED, now)
        return self._voided()

    def forget(self, now: datetime) -> ShipmentEvent | None:
        """The order was cancelled: what is not on its way yet never will be."""
        if self.is_on_its_way or self.status == S.VOIDED:
            return None
        self._become(S.VOIDED, now)
        return self._voided() if self.tracking_number else None

    def scan(self, scan: "Scan") -> ShipmentUpdated:
        """Raises `ShipmentIsVoided`."""
        if self.status == S.VOIDED:
            raise ShipmentIsVoided(f"Shipment {self.id} is voided; its parcel must not travel.")
        furthest = max(ShipmentStatus(self.status), ShipmentStatus(scan.status), key=WAY.index)
        self.version += 1
        self._become(furthest, scan.recorded_at)
        return self._updated(location=scan.location, description=scan.description)

    @property
    def is_on_its_way(self) -> bool:
        return self.status in WAY[1:]

    def _become(self, status: ShipmentStatus, now: datetime) -> None:
        self.status = status
        self.updated_at = now

    def _created(self) -> ShipmentCreated:
        return ShipmentCreated(
            **self._stamp(self.created_at),
            shipment_id=self.id,
            tracking_number=str(self.tracking_number),
        )

    def _updated(
        self, location: str | None = None, description: str | None = None
    ) -> ShipmentUpdated:
        return ShipmentUpdated(
            **self._stamp(self.updated_at),
            shipment_id=self.id,
            shipment_version=self.version,
            tracking_number=str(self.tracking_number),
            status=ShipmentStatus(self.status),
            location=location,
            description=description,
        )

    def _voided(self) -> ShipmentVoided:
        made = self.tracking_number is not None
        return ShipmentVoided(**self._stamp(self.updated_at), shipment_id=self.id if made else None)

    def _stamp(self, occurred_at: datetime | None) -> dict[str, Any]:
        return {"order_id": self.order_id, "user_id": self.user_id, "occurred_at": occurred_at}


class Scan(Base):
    """What a carrier reported of a parcel, kept in the order in which the reports came."""

    __tablename__ = "scans"
    __table_args__ = (Index("ix_scans_shipment_id_id", "shipment_id", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    shipment_id: Mapped[UUID] = mapped_column(ForeignKey(Shipment.id))
    status: Mapped[str]
    location: Mapped[str]
    description: Mapped[str | None]
    recorded_at: Mapped[datetime]
