"""The dead-letter desk of a service: events it gave up on, kept with the reason."""

import json
from typing import Annotated, Any
from uuid import NAMESPACE_URL, uuid5

from dapr.ext.fastapi import DaprApp
from fastapi import Depends, FastAPI
from pydantic import Base64Bytes, BaseModel, ValidationError
from pydantic_core import from_json
from sqlalchemy.dialects.postgresql import insert

from chassis.cloud_event import CloudEvent
from chassis.database import database
from chassis.identity import require_app_token
from chassis.sidecar import DEAD_LETTERS
from chassis.tables import DeadLetter

_LONGEST_REASON = 2000


class RawDelivery(BaseModel):
    """The sidecar's envelope round the bytes that it could not deliver."""

    data_base64: Base64Bytes


async def record_dead_letter(topic: str, raw: Any, reason: str) -> None:
    """Keeps the event as it came.

    The same event again counts as another attempt, and opens its letter if that was resolved.
    """
    payload = raw if isinstance(raw, str) else json.dumps(raw, sort_keys=True, default=str)
    envelope = _envelope(raw)
    trace_parent = envelope.producertrace if envelope else None
    letter = insert(DeadLetter).values(
        id=uuid5(NAMESPACE_URL, _storable(f"{topic} {envelope.id if envelope else payload}")),
        event_id=envelope and envelope.id,
        topic=_storable(topic),
        payload=_storable(payload),
        reason=stored_reason(reason),
        trace_parent=trace_parent and _storable(trace_parent),
    )
    again = {
        "attempts": DeadLetter.attempts + 1,
        "reason": letter.excluded.reason,
        "resolution": None,
        "resolved_at": None,
        "resolved_by": None,
    }
    async with database.transaction() as session:
        await session.execute(
            letter.on_conflict_do_update(index_elements=[DeadLetter.id], set_=again)
        )


def stored_reason(reason: str) -> str:
    return _storable(reason[:_LONGEST_REASON])


def _storable(text: str) -> str:
    """PostgreSQL's text holds no NUL, and UTF-8 no half of a surrogate pair."""
    return text.encode(errors="replace").decode().replace("\x00", "?")


def _envelope(raw: Any) -> CloudEvent | None:
    try:
        return CloudEvent.model_validate(raw)
    except ValidationError:
        return None


def subscribe_to_dead_letters(app: FastAPI, name: str) -> None:
    """What the sidecar gave up delivering to this service comes to this service's desk.

    Raw, for a dead letter may be no CloudEvent, and one by one. It has a component to itself: the
    subscriptions of one component get in each other's way when the broker comes back.
    """

    async def receive(
        delivery: RawDelivery, _: Annotated[None, Depends(require_app_token)]
    ) -> dict[str, str]:
        raw = _decoded(delivery.data_base64)
        envelope = _envelope(raw)
        topic = envelope.type if envelope else "unknown"
        await record_dead_letter(topic, raw, "The sidecar used up its delivery attempts.")
        return {"status": "SUCCESS"}

    DaprApp(app).subscribe(
        pubsub=DEAD_LETTERS,
        topic=f"{name}.dead-letters",
        route="/events/dead-letters",
        metadata={"queueType": "quorum", "rawPayload": "true"},
    )(receive)


def _decoded(data: bytes) -> Any:
    text = data.decode(errors="replace")
    try:
        return from_json(text)
    except ValueError:
        return text
