"""A provider in this process, a receiver for its webhooks, and a provider in its own process."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from aiohttp import web
from waybill.provider.app import create_app
from waybill.provider.settings import Settings

API_KEY = "sk_test_4eC39HqLyjWDarjtT1zdp7dc"
WEBHOOK_SECRET = "whsec_of_these_tests"
PATIENCE = 15.0


@dataclass(frozen=True)
class Delivery:
    payload: bytes
    signature: str

    @property
    def event(self) -> dict[str, Any]:
        return json.loads(self.payload)


@dataclass
class Receiver:
    """Takes webhooks, answering with the scripted statuses first and 200 afterwards."""

    url: str = ""
    statuses: list[int] = field(default_factory=list[int])
    deliveries: "asyncio.Queue[Delivery]" = field(default_factory=asyncio.Queue["Delivery"])

    async def next(self) -> Delivery:
        async with asyncio.timeout(PATIENCE):
            return await self.deliveries.get()

    async def take(self, request: web.Request) -> web.Response:
        payload = await request.read()
        self.deliveries.put_nowait(Delivery(payload, request.headers["Stripe-Signature"]))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)


@pytest_asyncio.fixture
async def receiver() -> AsyncGenerator[Receiver]:
    receiver = Receiver()
    application = web.Application()
    application.router.add_post("/webhooks", receiver.take)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    receiver.url = f"http://{host}:{port}/webhooks"
    yield receiver
    await runner.cleanup()


Start = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def start_provider(tmp_path: Path, receiver: Receiver) -> Start:
    """Start a provider on one state directory, as often as wanted, one at a time."""

    @asynccontextmanager
    async def start(**changes: Any) -> AsyncGenerator[httpx.AsyncClient]:
        defaults: dict[str, Any] = {
            "api_key": API_KEY,
            "webhook_secret": WEBHOOK_SECRET,
            "state_dir": tmp_path / "provider",
            "latency_ms": 0,
            "webhook_url": receiver.url,
            "webhook_delay_ms": 0,
            "webhook_backoff": 0.01,
        }
        settings = Settings(**defaults | changes)
        app = create_app(settings)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app, raise_app_exceptions=False),
                base_url="http://provider",
                headers={"Authorization": f"Bearer {API_KEY}"},
            ) as client,
        ):
            yield client

    return start


@pytest_asyncio.fixture
async def client(start_provider: Start) -> AsyncGenerator[httpx.AsyncClient]:
    async with start_provider() as client:
        yield client


@dataclass
class ProviderProcess:
    """`python -m waybill.provider` on a port of its own."""

    environment: dict[str, str]
    url: str
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "waybill.provider",
            env=self.environment, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            while b"Uvicorn running" not in (line := await self.process.stderr.readline()):
                assert line, "the provider ended before it was ready"

    async def end(self, send: Callable[["asyncio.subprocess.Process"], None]) -> None:
        assert self.process is not None
        send(self.process)
        async with asyncio.timeout(PATIENCE):
            await self.process.communicate()
        self.process = None


@pytest_asyncio.fixture
async def provider_process(tmp_path: Path, receiver: Receiver) -> AsyncGenerator[ProviderProcess]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    provider = ProviderProcess(
        url=f"http://127.0.0.1:{port}",
        environment=os.environ
        | {
            "WAYBILL_PROVIDER_API_KEY": API_KEY,
            "WAYBILL_PROVIDER_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "WAYBILL_PROVIDER_WEBHOOK_URL": receiver.url,
            "WAYBILL_PROVIDER_STATE_DIR": str(tmp_path / "provider"),
            "WAYBILL_PROVIDER_PORT": str(port),
        },
    )
    await provider.start()
    yield provider
    if provider.process is not None:
        await provider.end(asyncio.subprocess.Process.terminate)


Charge = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
def charge(client: httpx.AsyncClient) -> Charge:
    """Create and confirm an intent of 12.50 EUR."""

    async def charge(payment_method: str = "pm_card_ok", key: str | None = None) -> httpx.Response:
        return await client.post(
            "/v1/payment_intents",
            data={
                "amount": "1250",
                "currency": "eur",
                "confirm": "true",
                "payment_method": payment_method,
                "metadata[order_id]": "order-1",
            },
            headers={"Idempotency-Key": key} if key else {},
        )

    return charge
