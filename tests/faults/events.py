"""The events that the services have logged, as they were published, and publishing them again."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import aiohttp
from chassis.cloud_event import envelop
from chassis.tables import LoggedEvent
from waybill.credentials import load
from waybill.parts import postgres
from waybill.ports import HOST
from waybill.project import Project

_BATCH = 100
_LOGGED = """
    SELECT id, sequence, topic, key, payload::text, trace_parent, created_at
    FROM event_log WHERE created_at >= $1 ORDER BY sequence
"""
_EVER = datetime(2000, 1, 1, tzinfo=UTC)


async def logged_events(project: Project, since: datetime = _EVER) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    for service in project.databases:
        async with postgres.connection(load(project), service) as session:
            for row in await session.fetch(_LOGGED, since):
                logged = LoggedEvent(**{**row, "payload": json.loads(row["payload"])})
                events.append(envelop(logged))
    return events


async def publish(project: Project, events: Sequence[dict[str, Any]], key: str = "") -> None:
    """Through a sidecar, as the relay does; with `key` instead of their types for routing."""
    url = f"http://{HOST}:{project.app('orders').dapr_http_port}"
    token = {"dapr-api-token": load(project).dapr_api_token}
    async with aiohttp.ClientSession(url, headers=token) as http:
        for start in range(0, len(events), _BATCH):
            entries = [
                {
                    "entryId": str(number),
                    "event": event,
                    "contentType": "application/cloudevents+json",
                    "metadata": {"routingKey": key or event["type"]},
                }
                for number, event in enumerate(events[start : start + _BATCH])
            ]
            async with http.post("/v1.0-alpha1/publish/bulk/pubsub/events", json=entries) as reply:
                assert reply.ok, await reply.text()
