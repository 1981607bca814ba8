"""The broker from outside: its management API, and its own command."""

import json
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp
from waybill import ports
from waybill.credentials import load
from waybill.parts import rabbitmq
from waybill.processes import output
from waybill.project import Project

EXCHANGE = "events"


def queue_of(service: str) -> str:
    """As the component names it."""
    return f"{service}-{EXCHANGE}"


class Broker:
    def __init__(self, project: Project, http: aiohttp.ClientSession) -> None:
        self._project = project
        self._http = http

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        async with self._http.request(method, f"/api/{path}", json=body) as reply:
            if not reply.ok:
                raise aiohttp.ClientError(f"{reply.status} {await reply.text()}")
            return await reply.json() if reply.content_type == "application/json" else None

    @asynccontextmanager
    async def refusing(self, service: str) -> AsyncGenerator[None]:
        """The service's queue refuses what comes while a message waits in it."""
        policy = {
            "pattern": f"^{queue_of(service)}$",
            "definition": {"max-length": 1, "overflow": "reject-publish"},
            "apply-to": "queues",
            "priority": 1,
        }
        path = f"policies/{rabbitmq.VHOST}/refusing"
        await self.ask("PUT", path, policy)
        try:
            yield
        finally:
            await self.ask("DELETE", path)

    @asynccontextmanager
    async def unbound(self, service: str, topic: str) -> AsyncGenerator[None]:
        """Events of this type go nowhere, as far as this service is concerned."""
        await self._unbind(service, topic)
        try:
            yield
        finally:
            await self._bind(service, topic)

    @asynccontextmanager
    async def bound(self, service: str, key: str) -> AsyncGenerator[None]:
        """What is published with this key comes to this service."""
        await self._bind(service, key)
        try:
            yield
        finally:
            await self._unbind(service, key)

    async def _bind(self, service: str, key: str) -> None:
        await self.ask("POST", _bindings(service), {"routing_key": key, "arguments": {}})

    async def _unbind(self, service: str, key: str) -> None:
        await self.ask("DELETE", f"{_bindings(service)}/{quote(key, safe='')}")

    async def publish(self, key: str, payload: str) -> None:
        """Puts any bytes in, as no sidecar would."""
        message = {
            "properties": {"delivery_mode": 2},
            "routing_key": key,
            "payload": payload,
            "payload_encoding": "string",
        }
        answer = await self.ask("POST", f"exchanges/{rabbitmq.VHOST}/{EXCHANGE}/publish", message)
        assert answer["routed"], key

    async def redeliveries(self) -> Mapping[str, int]:
        """By queue, since the broker started."""
        query = "columns=name,message_stats.redeliver"
        queues = await self.ask("GET", f"queues/{rabbitmq.VHOST}?{query}")
        return {q["name"]: q.get("message_stats", {}).get("redeliver", 0) for q in queues}

    async def waiting(self, service: str) -> int:
        """Messages in the service's queue that no consumer has been given, as last counted."""
        path = f"queues/{rabbitmq.VHOST}/{queue_of(service)}"
        return (await self.ask("GET", path)).get("messages_ready", 0)

    async def is_unalarmed(self) -> bool:
        """True once it takes publishes: it looks at its memory and its disk now and then."""
        async with self._http.get("/api/health/checks/local-alarms") as reply:
            return reply.ok

    async def queues(self) -> Mapping[str, dict[str, Any]]:
        """As the node knows them at this moment, by name."""
        columns = ("name", "consumers", "messages_unacknowledged")
        listed = json.loads(await self.command("list_queues", *columns))
        return {queue["name"]: queue for queue in listed}

    async def command(self, *words: str) -> str:
        """`rabbitmqctl`, against the private node."""
        server = rabbitmq.find_server()
        assert server
        listing = ["--formatter=json", "--vhost", rabbitmq.VHOST]
        return await output(
            *(str(server.with_name("rabbitmqctl")), "--quiet"),
            *(listing if words[0].startswith("list_") else []),
            *words,
            env=os.environ | rabbitmq.environment(self._project.state / "rabbitmq"),
        )


def _bindings(service: str) -> str:
    return f"bindings/{rabbitmq.VHOST}/e/{EXCHANGE}/q/{queue_of(service)}"


@asynccontextmanager
async def open_broker(project: Project) -> AsyncGenerator[Broker]:
    secrets = load(project)
    login = aiohttp.encode_basic_auth(secrets.rabbitmq_user, secrets.rabbitmq_password)
    base = f"http://{ports.HOST}:{ports.RABBITMQ_MANAGEMENT}"
    async with aiohttp.ClientSession(base, headers={"Authorization": login}) as http:
        yield Broker(project, http)
