"""`kill -9` while customers buy: nothing is lost, nothing happens twice."""

import pytest
from waybill.cluster.testing import Cluster, Shopping, is_ready
from waybill.commands.verify import broken_promises
from waybill.project import Project
from waybill.waiting import until

pytestmark = [pytest.mark.k8s, pytest.mark.timeout(300)]


@pytest.mark.parametrize(
    ("app", "container"),
    [
        ("inventory", "app"),
        ("orders", "daprd"),
        ("rabbitmq", "rabbitmq"),
        ("postgres", "postgres"),
    ],
)
async def test_a_container_that_dies_costs_nothing(
    cluster: Cluster, shopping: Shopping, platform: Project, app: str, container: str
) -> None:
    async with shopping() as crowd:
        await cluster.kill(app, container)
        await crowd.goes_on()
    assert await broken_promises(platform) == []


async def test_a_pod_that_vanishes_costs_nothing(
    cluster: Cluster, shopping: Shopping, platform: Project
) -> None:
    async with shopping() as crowd:
        await cluster.delete(await cluster.pod("payments"), "--grace-period=0", "--force")

        async def is_back() -> bool:
            return any(is_ready(pod) for pod in await cluster.pods("payments"))

        await until(is_back, seconds=120, every=0.5)
        await crowd.goes_on()
    assert await broken_promises(platform) == []
