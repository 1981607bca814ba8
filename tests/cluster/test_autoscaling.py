"""The autoscaler, on metrics of real work."""

import asyncio

import aiohttp
import pytest
from waybill import ports
from waybill.cluster.testing import Cluster
from waybill.project import Project
from waybill.waiting import until

pytestmark = [pytest.mark.k8s, pytest.mark.timeout(300)]

VISITORS = 8


async def test_the_gateway_grows_under_load_and_shrinks_after_it(
    platform: Project, cluster: Cluster
) -> None:
    async def replicas() -> int:
        deployment = await cluster.get("deployment", "gateway")
        return deployment["spec"]["replicas"]

    async def is_more() -> bool:
        return await replicas() > 1

    async def is_one() -> bool:
        return await replicas() == 1

    await until(is_one, seconds=120, every=1)  # or the load would show nothing
    gateway = f"http://{ports.HOST}:{platform.app('gateway').port}"
    async with aiohttp.ClientSession(gateway) as http:
        visitors = [asyncio.create_task(_browse(http)) for _ in range(VISITORS)]
        try:
            await until(is_more, seconds=90, every=1)
        finally:
            for visitor in visitors:
                visitor.cancel()
            await asyncio.gather(*visitors, return_exceptions=True)
            await until(is_one, seconds=120, every=1)  # others want one


async def _browse(http: aiohttp.ClientSession) -> None:
    while True:
        async with http.get("/openapi.json") as reply:
            await reply.read()
