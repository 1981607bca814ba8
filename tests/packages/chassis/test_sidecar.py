"""The sidecar client against an HTTP server that answers as daprd does; e2e has the real one."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession, web
from chassis.sidecar import Sidecar, SidecarUnavailable
from chassis.transience import is_transient
from dapr.clients.exceptions import DaprGrpcError
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata

DAPR_ERROR = {"errorCode": "ERR_DIRECT_INVOKE", "message": "no host found"}


class Daprd:
    def __init__(self) -> None:
        self.status = 200
        self.answer: Any = {}
        self.seen: list[tuple[str, dict[str, str], Any]] = []
        self.reached = asyncio.Event()
        self.hold: asyncio.Event | None = None

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.text()
        self.seen.append((request.path, dict(request.headers), json.loads(body) if body else None))
        self.reached.set()
        if self.hold:
            await self.hold.wait()
        return web.json_response(self.answer, status=self.status)


@pytest.fixture
def daprd() -> Daprd:
    return Daprd()


@pytest.fixture
async def client(daprd: Daprd) -> AsyncIterator[Sidecar]:
    server = web.Application()
    server.router.add_route("*", "/{path:.*}", daprd.handle)
    runner = web.AppRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    client = Sidecar()
    async with ClientSession(f"http://{host}:{port}") as client._http:  # pyright: ignore[reportPrivateUsage]  # not the port of the settings
        yield client
    await runner.cleanup()


async def test_an_invocation_brings_the_callees_answer_whatever_it_is(
    client: Sidecar, daprd: Daprd
) -> None:
    daprd.status, daprd.answer = 409, {"detail": "no"}
    reply = await client.invoke("orders", "orders/7", method="POST", body=b"{}", headers={"A": "b"})
    assert (reply.status, reply.ok, reply.json()) == (409, False, {"detail": "no"})
    path, headers, _ = daprd.seen[0]
    assert path == "/v1.0/invoke/orders/method/orders/7"
    assert headers["A"] == "b"
    assert headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("status", [403, 500])
async def test_the_sidecars_own_error_is_not_taken_for_the_callees_word(
    client: Sidecar, daprd: Daprd, status: int
) -> None:
    daprd.status, daprd.answer = status, DAPR_ERROR
    with pytest.raises(SidecarUnavailable) as raised:
        await client.invoke("orders", "orders")
    assert is_transient(raised.value)


async def test_events_are_published_whole_with_their_type_as_the_routing_key(
    client: Sidecar, daprd: Daprd
) -> None:
    assert await client.publish([{"id": "1", "type": "order.created"}]) == set()
    path, _, [entry] = daprd.seen[0]
    assert path == "/v1.0-alpha1/publish/bulk/pubsub/events"
    assert entry["contentType"] == "application/cloudevents+json"
    assert entry["metadata"] == {"routingKey": "order.created"}


async def test_a_partly_refused_publish_names_what_was_refused(
    client: Sidecar, daprd: Daprd
) -> None:
    daprd.status = 500
    daprd.answer = {"failedEntries": [{"entryId": "2", "error": "x"}], "errorCode": "ERR_PUBSUB"}
    events = [{"id": "1", "type": "a"}, {"id": "2", "type": "a"}]
    assert await client.publish(events) == {"2"}


@pytest.mark.parametrize("answer", [{"errorCode": "ERR_PUBSUB_FORBIDDEN"}, "no object"])
async def test_a_publish_that_failed_as_a_whole_is_tried_again(
    client: Sidecar, daprd: Daprd, answer: Any
) -> None:
    daprd.status, daprd.answer = 403, answer
    with pytest.raises(SidecarUnavailable):
        await client.publish([{"id": "1", "type": "a"}])


async def test_readiness_is_the_outbound_health(client: Sidecar, daprd: Daprd) -> None:
    assert await client.is_ready()
    assert daprd.seen[0][0] == "/v1.0/healthz/outbound"
    daprd.status = 500
    assert not await client.is_ready()


async def test_before_it_is_connected_nothing_can_be_asked() -> None:
    with pytest.raises(SidecarUnavailable):
        await Sidecar().invoke("orders", "orders")
    with pytest.raises(SidecarUnavailable):
        await Sidecar().secret("store", "key")


class BrokenStore:
    """The SDK's client, whose channel is down; it wraps some errors in a class of its own."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, _: str) -> Any:
        async def call(*_: Any, **__: Any) -> None:
            raise self._error

        return call


def _errors() -> list[Exception]:
    status = Metadata()
    plain = AioRpcError(StatusCode.UNAVAILABLE, status, status, "store away")
    return [plain, DaprGrpcError(plain), TimeoutError()]


@pytest.mark.parametrize("error", _errors(), ids=lambda error: type(error).__name__)
async def test_a_store_that_is_away_is_passing_trouble(error: Exception) -> None:
    client = Sidecar()
    client._grpc = BrokenStore(error)  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
    for call in (
        client.get_states(["k"]),
        client.save_states({"k": b"v"}, ttl_seconds=1),
        client.delete_states(["k"]),
        client.secret("store", "key"),
        client.configuration("store"),
        client.call_binding("email", "create", "", {}),
    ):
        with pytest.raises(SidecarUnavailable) as raised:
            await call
        assert is_transient(raised.value)


async def test_a_callee_that_hangs_does_not_take_up_every_place(
    client: Sidecar, daprd: Daprd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.sidecar.MOST_IN_FLIGHT", 1)
    daprd.hold = asyncio.Event()
    hanging = asyncio.create_task(client.invoke("slow", "x"))
    async with asyncio.timeout(5):
        await daprd.reached.wait()
    with pytest.raises(SidecarUnavailable, match="too much"):
        await client.invoke("slow", "x")
    daprd.hold.set()
    assert (await hanging).ok
    assert (await client.invoke("slow", "x")).ok
