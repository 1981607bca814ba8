"""`waybill deploy`, on a cluster that has it all already."""

import json
import os
import sys

import pytest
from waybill.cluster import images, programs
from waybill.cluster.programs import DAPR_VERSION
from waybill.cluster.testing import Cluster
from waybill.processes import Command, run
from waybill.project import Project

pytestmark = [pytest.mark.k8s, pytest.mark.timeout(300)]

CONTEXT = "waybill"


async def test_deploying_what_is_there_replaces_nothing_but_what_a_hand_has_changed(
    platform: Project, cluster: Cluster
) -> None:
    """A dry run of each part comes first."""
    before = await templates(platform, cluster)
    by_hand = ("--patch", json.dumps({"spec": {"revisionHistoryLimit": 1}}))
    await cluster.run("patch", "deployment/users", *by_hand)
    registry = f"--set=global.registry={images.DAPR_REGISTRY},global.tag={DAPR_VERSION}"
    command = Command(
        argv=[
            *(sys.executable, "-m", "waybill", "deploy", "--context", CONTEXT),
            *("--overlay", str(images.OVERLAY), "--chart", str(programs.find().dapr_chart)),
            registry,
        ],
        cwd=platform.root,
        env=dict(os.environ),
        log=platform.log("deploy"),
    )
    assert await run(command, seconds=240) == 0, command.log.read_text()
    assert await templates(platform, cluster) == before
    assert (await cluster.get("deployment", "users"))["spec"]["revisionHistoryLimit"] == 5


async def templates(platform: Project, cluster: Cluster) -> dict[str, set[str]]:
    """What the pods were made from; how many there are is the autoscaler's."""
    return {
        app.name: {
            pod["metadata"]["labels"]["pod-template-hash"] for pod in await cluster.pods(app.name)
        }
        for app in platform.apps
    }
