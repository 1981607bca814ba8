"""What tests of the whole platform do to it."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

import aiohttp
import pytest
from waybill import ports
from waybill.credentials import load
from waybill.parts.rabbitmq import VHOST
from waybill.project import Project

Unbound: TypeAlias = Callable[[str, str], AbstractAsyncContextManager[None]]


@pytest.fixture
def unbound(platform: Project) -> Unbound:
    """For the length of a block the broker has nowhere to put a type of event for a service.

    It drops them, and the sidecars call that success.
    """
    secrets = load(platform)
    login = aiohttp.encode_basic_auth(secrets.rabbitmq_user, secrets.rabbitmq_password)
    management = f"http://{ports.HOST}:{ports.RABBITMQ_MANAGEMENT}"

    @asynccontextmanager
    async def unbind(service: str, topic: str) -> AsyncGenerator[None]:
        bindings = f"/api/bindings/{VHOST}/e/events/q/{service}-events"
        async with aiohttp.ClientSession(management, headers={"Authorization": login}) as http:
            async with http.delete(f"{bindings}/{topic}") as reply:
                reply.raise_for_status()
            try:
                yield
            finally:
                async with http.post(bindings, json={"routing_key": topic}) as reply:
                    reply.raise_for_status()

    return unbind
