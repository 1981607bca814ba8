"""The pods as they really run: with the sidecar that Dapr put in, and within their limits."""

import asyncio
import signal

import pytest
from waybill.cluster.programs import DAPR_VERSION
from waybill.cluster.testing import Cluster, is_ready, pod_of_a_test, statuses
from waybill.errors import PlatformError
from waybill.project import Project
from waybill.waiting import until

pytestmark = [pytest.mark.k8s, pytest.mark.timeout(180)]

IMAGE_MIB = 120
STAND_INS = ("mail", "provider")
LOOK = "du -smx /app | cut -f1; id -u; touch /tmp/here 2>&1 || true"
"""What the Dockerfile adds to its base lies in /app; into /tmp anybody may write."""

KILLED = 128 + signal.SIGKILL

GREEDY = ["python", "-c", "x = bytearray(200 * 2**20); print(len(x))"]
LIMITS = {"memory": "64Mi", "cpu": "200m"}


async def test_every_service_runs_beside_the_sidecar_that_was_put_in(
    platform: Project, cluster: Cluster
) -> None:
    for app in platform.apps:
        pods = await cluster.pods(app.name)
        assert pods, app.name
        for pod in pods:
            containers = statuses(pod)
            assert containers["app"]["ready"]
            assert containers["daprd"]["ready"]
            assert containers["daprd"]["image"].endswith(f"daprd:{DAPR_VERSION}")
            assert is_ready(pod)


async def test_an_image_adds_little_to_its_base_and_runs_as_nobody_without_writing(
    platform: Project, cluster: Cluster
) -> None:
    containers = {app.name: "app" for app in platform.apps} | dict.fromkeys(STAND_INS, "stand-in")
    for name, container in containers.items():
        seen = await cluster.inside(name, "sh", "-c", LOOK, container=container)
        size, user, refusal = seen.splitlines()
        assert int(size) < IMAGE_MIB, name
        assert int(user) > 0
        assert "Read-only file system" in refusal


async def test_a_sidecar_starts_before_its_service_and_outlives_it(cluster: Cluster) -> None:
    spec = (await cluster.pod("orders"))["spec"]
    first = next(c for c in spec["initContainers"] if c["name"] == "daprd")
    assert first["restartPolicy"] == "Always"


async def test_a_component_that_is_scoped_to_others_is_not_there(cluster: Cluster) -> None:
    async def components(app: str) -> set[str]:
        _, metadata = await cluster.sidecar(app, "/v1.0/metadata")
        return {component["name"] for component in metadata["components"]}

    orders, gateway = await asyncio.gather(components("orders"), components("gateway"))
    assert {"pubsub", "statestore"} <= orders
    assert "configstore" in gateway
    assert not gateway & {"pubsub", "statestore", "email"}
    assert "configstore" not in orders


async def test_a_container_that_takes_more_memory_than_it_may_is_ended(cluster: Cluster) -> None:
    pod = pod_of_a_test("greedy", command=GREEDY, resources={"limits": LIMITS})
    await cluster.run("apply", "--filename", "-", stdin=pod)
    ended: list[int] = []

    async def has_ended() -> bool:
        pod = await cluster.get("pod", "greedy")
        states = [s["state"] for s in pod["status"].get("containerStatuses", ())]
        ended[:] = [state["terminated"]["exitCode"] for state in states if "terminated" in state]
        return bool(ended)

    try:
        await until(has_ended, seconds=60)
    finally:
        await cluster.run("delete", "pod", "greedy", "--grace-period=0", "--force")
    assert ended == [KILLED]  # the reason OOMKilled is a race between the kernel and containerd


async def test_a_pod_that_may_more_than_the_namespace_allows_is_refused(cluster: Cluster) -> None:
    privileged = pod_of_a_test("privileged", securityContext={"privileged": True})
    with pytest.raises(PlatformError, match="violates PodSecurity"):
        await cluster.run("apply", "--filename", "-", stdin=privileged)
