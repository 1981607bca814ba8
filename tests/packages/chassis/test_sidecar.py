"""The sidecar client against an HTTP server that answers as daprd does; e2e has the real one."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession, web
from chassis.sidecar import Sidecar, SidecarUnavailable
from chassis.transience import is_transient

DAPR_ERROR = {"errorCode": "ERR_DIRECT_INVOKE", "message": "no host found"}


class Daprd:
    def __init__(self) -> None:
        self.status = 200
        self.answer: Any = {}
        self.seen: list[tuple[str, dict[str, str], Any]] = []

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.text()
        self.seen.append((request.path, dict(request.headers), json.loads(body) if body else None))
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
