"""The one client of a process to its own Dapr sidecar.

Invocation and bulk publishing go over HTTP on one pooled session; the SDK's gRPC client serves
the building blocks that are called rarely. Retries, timeouts and breakers are the sidecar's: the
limits here only keep a dead sidecar from holding a request for ever.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

import aiohttp
import grpc
import structlog
from dapr.aio.clients import DaprClient
from dapr.clients.grpc._helpers import to_bytes
from dapr.clients.grpc._jobs import Job
from dapr.clients.grpc._state import StateItem
from opentelemetry import propagate
from pydantic import BaseModel, Field, ValidationError

from chassis.problems import Unavailable
from chassis.settings import settings

log = structlog.get_logger(__name__)

PUBSUB = "pubsub"
TOPIC = "events"
DEAD_LETTERS = "dead-letters"
STATE_STORE = "statestore"
START_DEADLINE_SECONDS = 60
MOST_IN_FLIGHT = 100
PATIENCE_SECONDS = 30  # longer than the sidecar's own policies try
_PROBE = aiohttp.ClientTimeout(total=2)  # a frozen sidecar takes the call and says nothing
T = TypeVar("T")


class SidecarUnavailable(Unavailable):
    """The sidecar, or the service behind it, did not answer.

    `said` is the sidecar's own reason, for callers that must know; clients are never shown it.
    """

    transient = True

    def __init__(self, detail: str, said: str = "") -> None:
        super().__init__(detail)
        self.said = said


@dataclass(frozen=True)
class Reply:
    """What the invoked service answered; any status, for only the caller knows what it means."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        return self.status < HTTPStatus.MULTIPLE_CHOICES

    def json(self) -> Any:
        return json.loads(self.body)


class Sidecar:
    def __init__(self) -> None:
        self._http: aiohttp.ClientSession | None = None
        self._grpc: DaprClient | None = None
        self._in_flight: Counter[str] = Counter()

    @asynccontextmanager
    async def connected(self) -> AsyncGenerator[None]:
        """Waits until the sidecar serves outbound calls; raises `TimeoutError` if it never does."""
        base = f"http://127.0.0.1:{settings().dapr_http_port}"
        headers = {"dapr-api-token": settings().dapr_api_token}
        limits = aiohttp.ClientTimeout(total=PATIENCE_SECONDS, connect=3)
        connector = aiohttp.TCPConnector(limit=0)  # `invoke` bounds what is in flight, by callee
        async with aiohttp.ClientSession(
            base, headers=headers, timeout=limits, connector=connector
        ) as self._http:
            await self._wait_until_ready()
            async with DaprClient(f"127.0.0.1:{settings().dapr_grpc_port}") as self._grpc:
                yield
        self._http = self._grpc = None

    async def _wait_until_ready(self) -> None:
        async with asyncio.timeout(START_DEADLINE_SECONDS):
            while not await self.is_ready():  # noqa: ASYNC110
                await asyncio.sleep(0.1)  # a process we do not own can only be asked

    async def is_ready(self) -> bool:
        """True if the sidecar's components are loaded; asks nothing of this service itself."""
        try:
            async with self._session.get("/v1.0/healthz/outbound", timeout=_PROBE) as reply:
                return reply.ok
        except (aiohttp.ClientError, TimeoutError):
            return False

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            raise SidecarUnavailable("The sidecar client is not connected.")
        return self._http

    @property
    def _sdk(self) -> DaprClient:
        if self._grpc is None:
            raise SidecarUnavailable("The sidecar client is not connected.")
        return self._grpc

    async def invoke(
        self,
        app_id: str,
        path: str,
        *,
        method: str = "GET",
        body: bytes | None = None,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Calls a route of another app or of an HTTP endpoint; `path` has no leading slash.

        Raises `SidecarUnavailable` when the call did not reach the callee or timed out.
        """
        sent = {**(headers or {}), "Content-Type": content_type}
        propagate.inject(sent)
        url = f"/v1.0/invoke/{app_id}/method/{path}"
        try:
            with self._place(app_id):
                async with self._session.request(
                    method, url, data=body, headers=sent, allow_redirects=False
                ) as got:
                    reply = Reply(got.status, got.headers, await got.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise SidecarUnavailable(f"{app_id} did not answer.") from error
        if _is_sidecars_own_error(reply):
            log.warning("invocation_failed", callee=app_id, answer=reply.body[:300])
            raise SidecarUnavailable(f"{app_id} is not reachable.")
        return reply

    @contextmanager
    def _place(self, app_id: str) -> Generator[None]:
        """Bounds the calls in flight to one callee, lest one that hangs takes up all there are."""
        if self._in_flight[app_id] >= MOST_IN_FLIGHT:
            raise SidecarUnavailable(f"{app_id} has too much to do.")
        self._in_flight[app_id] += 1
        try:
            yield
        finally:
            self._in_flight[app_id] -= 1

    async def publish(self, events: Sequence[Mapping[str, Any]]) -> set[str]:
        """Publishes whole CloudEvents in bulk; returns the ids of those that were refused.

        All go to one topic, each with its type as the routing key: a service has one queue, to
        which the broker routes the types that it subscribes to.

        Raises `SidecarUnavailable` if nothing is known of any of them. An id that is not in the
        answer may still be lost: Dapr's RabbitMQ component reports some refusals as success.
        """
        body = json.dumps(
            [
                {
                    "entryId": event["id"],
                    "event": event,
                    "contentType": "application/cloudevents+json",
                    "metadata": {"routingKey": event["type"]},
                }
                for event in events
            ],
            ensure_ascii=False,
        ).encode()
        url = f"/v1.0-alpha1/publish/bulk/{PUBSUB}/{TOPIC}"
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.post(url, data=body, headers=headers) as reply:
                answer = await reply.read()
                taken = reply.ok
        except (aiohttp.ClientError, TimeoutError) as error:
            raise SidecarUnavailable("The sidecar did not take the events.") from error
        return set() if taken else _refused(answer)

    async def get_states(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The values of those keys that have one."""
        reply = await _call(self._sdk.get_bulk_state(STATE_STORE, keys))
        return {item.key: to_bytes(item.data) for item in reply.items if item.data}

    async def save_states(self, values: Mapping[str, bytes], *, ttl_seconds: int) -> None:
        lifetime = {"ttlInSeconds": str(ttl_seconds)}
        items = [StateItem(key, value, metadata=lifetime) for key, value in values.items()]
        if items:  # the SDK refuses to save nothing
            await _call(self._sdk.save_bulk_state(STATE_STORE, items))

    async def delete_states(self, keys: Sequence[str]) -> None:
        await asyncio.gather(*(_call(self._sdk.delete_state(STATE_STORE, key)) for key in keys))

    async def secret(self, store: str, key: str) -> str:
        reply = await _call(self._sdk.get_secret(store, key))
        return reply.secret[key]

    async def configuration(self, store: str) -> dict[str, str]:
        """All that the store holds, by key."""
        reply = await _call(self._sdk.get_configuration(store, []))
        return {key: item.value for key, item in reply.items.items()}

    async def call_binding(
        self, name: str, operation: str, data: str, metadata: dict[str, str]
    ) -> None:
        await _call(self._sdk.invoke_binding(name, operation, data, metadata))

    async def schedule(self, name: str, schedule: str) -> None:
        """Has the scheduler call `/job/<name>`; a job that is there with this schedule stays.

        Set again, `@every 1h` would begin its hour anew, and never end it if that happens often.
        """
        if await self._scheduled(name) != schedule:
            await _call(self._sdk.schedule_job(Job(name, schedule=schedule), overwrite=True))

    async def _scheduled(self, name: str) -> str | None:
        """The schedule of a job; None for one that is not there, or may not be."""
        try:
            return (await _call(self._sdk.get_job(name))).schedule
        except SidecarUnavailable:
            return None  # the sidecar calls a job that is not there an internal error


def _is_sidecars_own_error(reply: Reply) -> bool:
    """The sidecar answers in the callee's place; its access control says 403, for one."""
    failed = reply.status >= HTTPStatus.BAD_REQUEST
    return failed and b'"errorCode":"ERR_' in reply.body.replace(b" ", b"")


class _FailedEntry(BaseModel):
    entryId: str  # noqa: N815  # Dapr's name


class _BulkFailure(BaseModel):
    failedEntries: list[_FailedEntry] = Field(min_length=1)  # noqa: N815  # Dapr's name


def _refused(answer: bytes) -> set[str]:
    try:
        failure = _BulkFailure.model_validate_json(answer)
    except ValidationError as error:
        raise SidecarUnavailable("The sidecar refused the events.", repr(answer[:300])) from error
    return {entry.entryId for entry in failure.failedEntries}


async def _call(call: Awaitable[T]) -> T:
    try:
        return await asyncio.wait_for(call, timeout=10)
    except grpc.RpcError as error:  # also the SDK's own class for errors of the state store
        said = str(getattr(error, "details", str)() or "")
        raise SidecarUnavailable("The sidecar did not do what it was asked.", said) from error
    except TimeoutError as error:
        raise SidecarUnavailable("The sidecar did not answer in time.") from error


sidecar = Sidecar()
