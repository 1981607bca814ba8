"""`kill -9` while customers buy: nothing is lost, nothing happens twice."""

import pytest
from waybill.cluster.testing import Cluster, Shopping
from waybill.commands.verify import broken_promises
from waybill.project import Project

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
