"""Pods come and go while customers buy, and no customer notices.

daprd goes on calling an address for twenty seconds after it has learnt it, whatever becomes of the
pod. So pods stay for longer than that after they were told to go.
"""

import asyncio

import pytest
from waybill.cluster.testing import Cluster, Shopping
from waybill.commands.verify import broken_promises
from waybill.project import Project
from waybill.waiting import until

pytestmark = [pytest.mark.k8s, pytest.mark.timeout(300)]

ROLLED_OUT = ("catalog", "orders", "users")
EVICTED = "inventory"
MINIMUM = 50
"""Orders that the customers place meanwhile, or it shows little."""

FIRST_CALL = "/v1.0/invoke/users/method/.well-known/jwks.json"


async def test_rollouts_and_an_eviction_fail_no_order(
    cluster: Cluster, shopping: Shopping, platform: Project
) -> None:
    before = [(await cluster.pod(app))["metadata"]["name"] for app in (*ROLLED_OUT, EVICTED)]
    caller = (await cluster.pod("tracking"))["metadata"]["name"]
    assert (await cluster.sidecar("tracking", FIRST_CALL))[0] == 200

    async with shopping() as crowd:
        await cluster.run("rollout", "restart", *(f"deployment/{app}" for app in ROLLED_OUT))
        await cluster.scale(EVICTED, 2)
        await cluster.evict(before[-1])
        for app in (*ROLLED_OUT, EVICTED):
            await cluster.rolled_out(f"deployment/{app}")
        await asyncio.gather(*(has_gone(cluster, pod) for pod in before))

    assert crowd.failures == []
    assert len(crowd.accepted) >= MINIMUM
    assert (await cluster.pod("tracking"))["metadata"]["name"] == caller
    assert (await cluster.sidecar("tracking", FIRST_CALL))[0] == 200
    await cluster.scale(EVICTED, 1)
    assert await broken_promises(platform) == []


async def has_gone(cluster: Cluster, name: str) -> None:
    async def gone() -> bool:
        return not await cluster.run("get", "pod", name, "--ignore-not-found")

    await until(gone, seconds=120, every=0.5)
