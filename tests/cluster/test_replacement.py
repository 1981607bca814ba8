"""Pods come and go while customers buy, and no customer notices.

daprd goes on calling an address for twenty seconds after it has learnt it, whatever becomes of the
pod. So pods stay for longer than that after they were told to go.
"""

import asyncio

import pytest
from waybill.cluster.testing import Cluster, Shopping, is_ready, statuses
from waybill.commands.verify import broken_promises
from waybill.project import Project
from waybill.waiting import until

pytestmark = [pytest.mark.k8s, pytest.mark.timeout(300)]

ROLLED_OUT = ("catalog", "orders", "users")
EVICTED = "inventory"
VANISHED = "payments"
TAKEN_BACK = "notifications"
IMAGE_MISSING = "ErrImageNeverPull"
MINIMUM = 50
"""Orders that the customers place meanwhile, or it shows little."""

FIRST_CALL = "/v1.0/invoke/users/method/.well-known/jwks.json"


async def test_pods_that_leave_vanish_or_never_start_fail_no_order(
    cluster: Cluster, shopping: Shopping, platform: Project
) -> None:
    """All of it at once, for each takes its time."""
    before = [(await cluster.pod(app))["metadata"]["name"] for app in (*ROLLED_OUT, EVICTED)]
    caller = (await cluster.pod("tracking"))["metadata"]["name"]
    assert (await cluster.sidecar("tracking", FIRST_CALL))[0] == 200

    async with shopping() as crowd:
        await cluster.run("rollout", "restart", *(f"deployment/{app}" for app in ROLLED_OUT))
        await cluster.scale(EVICTED, 2)
        await cluster.evict(before[-1])
        await asyncio.gather(
            has_vanished(cluster, VANISHED), has_been_taken_back(cluster, TAKEN_BACK)
        )
        for app in (*ROLLED_OUT, EVICTED):
            await cluster.rolled_out(f"deployment/{app}")
        await asyncio.gather(*(has_gone(cluster, pod) for pod in before))
        await crowd.goes_on()

    assert crowd.failures == []
    assert len(crowd.accepted) >= MINIMUM
    assert (await cluster.pod("tracking"))["metadata"]["name"] == caller
    assert (await cluster.sidecar("tracking", FIRST_CALL))[0] == 200
    await cluster.scale(EVICTED, 1)
    assert await broken_promises(platform) == []


async def has_vanished(cluster: Cluster, app: str) -> None:
    """Without a goodbye; returns when another is there."""
    await cluster.delete(await cluster.pod(app), "--grace-period=0", "--force")

    async def is_back() -> bool:
        return any(is_ready(pod) for pod in await cluster.pods(app))

    await until(is_back, seconds=120, every=0.5)


async def has_been_taken_back(cluster: Cluster, app: str) -> None:
    """A release whose image is not to be had: the pod of the former one stays all the time."""
    pod = (await cluster.pod(app))["metadata"]["name"]
    await cluster.run("set", "image", f"deployment/{app}", "app=localhost/waybill/nothing:none")

    async def has_failed() -> bool:
        apps = (statuses(pod).get("app", {}) for pod in await cluster.pods(app))
        return any(
            IMAGE_MISSING in status.get("state", {}).get("waiting", {}).values() for status in apps
        )

    await until(has_failed, seconds=120, every=0.5)
    await cluster.run("rollout", "undo", f"deployment/{app}")
    await cluster.rolled_out(f"deployment/{app}")
    assert (await cluster.pod(app))["metadata"]["name"] == pod


async def has_gone(cluster: Cluster, name: str) -> None:
    async def gone() -> bool:
        return not await cluster.run("get", "pod", name, "--ignore-not-found")

    await until(gone, seconds=120, every=0.5)
