"""The envelope that events travel in (CloudEvents 1.0, structured JSON)."""

from typing import Any
from uuid import UUID

from pydantic import BaseModel

from chassis.tables import LoggedEvent


class CloudEvent(BaseModel):
    """The attributes we read.

    `producertrace` is an extension attribute of our own: the sidecar overwrites `traceparent`,
    and gives each entry of a bulk a context that belongs to no request.
    """

    id: UUID
    type: str
    data: dict[str, Any]
    producertrace: str | None = None


def envelop(event: LoggedEvent) -> dict[str, Any]:
    """The CloudEvent of a log row; its id is the row's, however often it is published."""
    envelope = {
        "specversion": "1.0",
        "id": str(event.id),
        "source": f"urn:waybill:{event.topic.partition('.')[0]}",
        "type": event.topic,
        "subject": event.key,
        "time": event.created_at.isoformat(),
        "datacontenttype": "application/json",
        "data": event.payload,
    }
    return envelope | ({"producertrace": event.trace_parent} if event.trace_parent else {})
