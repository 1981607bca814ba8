"""The dead-letter desk of a service: events it gave up on, kept with the reason."""

import json
from typing import Annotated, Any
from uuid import NAMESPACE_URL, uuid5

from dapr.ext.fastapi import DaprApp
from fastapi import Depends, FastAPI
from pydantic import ValidationError
from sqlalchemy.dialects.postgresql import insert

from chassis.cloud_event import CloudEvent
from chassis.database import database
from chassis.identity import require_app_token
from chassis.sidecar import PUBSUB
from chassis.tables import DeadLetter

_LONGEST_REASON = 2000


async def record_dead_letter(topic: str, raw: Any, reason: str) -> None:
    """Keeps the event as it came; the same event again only counts as another attempt."""
    payload = raw if isinstance(raw, str) else json.dumps(raw, sort_keys=True, default=str)
    envelope = _envelope(raw)
    letter = insert(
        DeadLetter
    ).values(
        id=uuid5(NAMESPACE_URL, f"{topic} {envelope.id if envelope else payload}"),
        event_id=envelope and envelope.id,
        topic=topic,
        payload=payload.replace(
            "\x00", "\ufffd"
        ),  # PostgreSQL's text takes every character but NUL
        reason=reason[:_LONGEST_REASON].replace("\x00", "\ufffd"),
        trace_parent=envelope and envelope.producertrace,
    )
    again = {"attempts": DeadLetter.attempts + 1}
    async with database.transaction() as session:
        await session.execute(
            letter.on_conflict_do_update(index_elements=[DeadLetter.id], set_=again)
        )


def _envelope(raw: Any) -> CloudEvent | None:
    try:
        return CloudEvent.model_validate(raw)
    except ValidationError:
        return None


def subscribe_to_dead_letters(app: FastAPI, name: str) -> None:
    """What the sidecar gave up delivering to this service comes to this service's desk."""

    async def receive(
        event: dict[str, Any], _: Annotated[None, Depends(require_app_token)]
    ) -> dict[str, str]:
        topic = str(event.get("type", "unknown"))
        await record_dead_letter(topic, event, "The sidecar used up its delivery attempts.")
        return {"status": "SUCCESS"}

    DaprApp(app).subscribe(
        pubsub=PUBSUB,
        topic=f"{name}.dead-letters",
        route="/events/dead-letters",
        metadata={"queueType": "quorum"},
    )(receive)
