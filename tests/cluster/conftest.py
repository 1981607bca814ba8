"""The cluster that the tests run inside: `waybill cluster test`."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from waybill.cluster.namespaces import NODE
from waybill.cluster.testing import Cluster, Crowd, Shopping
from waybill.project import Project
from waybill.shop import Shop
from waybill.waiting import until

_TRACKED_SECONDS = 120


@pytest.fixture(scope="session", autouse=True)
def inside() -> None:
    """Elsewhere the fixtures would start a platform without a cluster."""
    if socket.gethostname() != NODE:
        pytest.skip("runs inside a cluster: waybill cluster test")


@pytest.fixture(scope="session")
async def cluster(platform: Project) -> Cluster:
    return Cluster()


@pytest.fixture
async def shopping(shop: Shop) -> Shopping:
    """Customers who buy as long as the block lasts; then all that was accepted is on its way."""

    @asynccontextmanager
    async def crowd() -> AsyncGenerator[Crowd]:
        crowd = Crowd(shop, [await shop.register(f"Crowd {number}") for number in range(2)])
        await crowd.buy(0)
        tasks = [asyncio.create_task(crowd.shopping()) for _ in range(2)]
        try:
            yield crowd
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()
        await until(crowd.all_tracked, seconds=_TRACKED_SECONDS, every=1)

    return crowd
