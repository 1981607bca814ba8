"""What tests of the whole platform do to it."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

import pytest
from faults.broker import open_broker
from waybill.project import Project

Unbound: TypeAlias = Callable[[str, str], AbstractAsyncContextManager[None]]


@pytest.fixture
def unbound(platform: Project) -> Unbound:
    """For the length of a block the broker has nowhere to put a type of event for a service.

    It drops them, and the sidecars call that success.
    """

    @asynccontextmanager
    async def unbind(service: str, topic: str) -> AsyncGenerator[None]:
        async with open_broker(platform) as broker, broker.unbound(service, topic):
            yield

    return unbind
