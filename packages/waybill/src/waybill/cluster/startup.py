"""What is started in which order inside a new cluster: a node, Dapr, the platform."""

import asyncio
import os

from waybill.cluster import deploy, forward, images, programs
from waybill.cluster.deploy import Target
from waybill.cluster.node import Node
from waybill.cluster.programs import DAPR_VERSION, Programs
from waybill.errors import PlatformError, first_failure
from waybill.logs import last_lines
from waybill.processes import Command, run
from waybill.project import Project
from waybill.supervisor import Supervisor
from waybill.waiting import until

_NODE_SECONDS = 60
_IMPORT_SECONDS = 300


async def start(project: Project, supervisor: Supervisor) -> None:
    """Returns when the platform is ready; a PlatformError says what is not, and why."""
    available = programs.find()
    node = Node(project, available)
    target = _target(project, node, available)
    await supervisor.bring_up(node.containerd())
    with first_failure():
        async with asyncio.TaskGroup() as group:
            group.create_task(_node(node, supervisor))
            group.create_task(_images(project, supervisor))
        async with asyncio.TaskGroup() as group:
            group.create_task(_unpacked(project, supervisor))
            group.create_task(deploy.install_dapr(target, supervisor.board))
    await deploy.install_platform(target, await target.manifests(), supervisor.board)
    await forward.start(project)
    supervisor.keep_alive()


async def _node(node: Node, supervisor: Supervisor) -> None:
    with supervisor.board.stage("Control plane"):
        node.make_keys()
        await supervisor.bring_up(node.etcd())
        await supervisor.bring_up(node.api_server())
        await supervisor.bring_up(node.controller_manager())
        await supervisor.bring_up(node.scheduler())
        await node.introduce()
    with supervisor.board.stage("Node"):
        parts = (node.kubelet(), node.proxy(), node.policies(), node.dns(), node.metrics())
        for process in parts:
            await supervisor.bring_up(process)
        await until(node.is_ready, seconds=_NODE_SECONDS)


async def _images(project: Project, supervisor: Supervisor) -> None:
    with supervisor.board.stage("Loading the images"):
        await _with_images(project, _LOAD)


async def _unpacked(project: Project, supervisor: Supervisor) -> None:
    """Pods would do that as they start, many of them the same layers at once."""
    with supervisor.board.stage("Unpacking the images"):
        await _with_images(project, _UNPACK)


def _target(project: Project, node: Node, available: Programs) -> Target:
    return Target(
        project,
        node.kubectl,
        helm=[available["helm"], "--kubeconfig", str(node.kubeconfig)],
        chart=[str(available.dapr_chart)],
        settings=[f"--set=global.registry={images.DAPR_REGISTRY},global.tag={DAPR_VERSION}"],
        overlay=images.OVERLAY,
    )


async def _with_images(project: Project, script: str) -> None:
    layout = str(images.own_layout(project))
    command = Command(
        argv=["sh", "-ec", script, "images", layout, *images.digests(project)],
        cwd=project.root,
        env=dict(os.environ),
        log=project.log("images"),
    )
    if await run(command, _IMPORT_SECONDS) != 0:
        raise PlatformError(f"The images cannot be loaded:\n{last_lines(command.log)}")


_LOAD = """
    tar -C "$1" -cf - . | ctr --namespace k8s.io images import --no-unpack -
    ctr --namespace k8s.io snapshots unpack "$2"
"""
"""The first is the base of all others."""
_UNPACK = """
    shift
    printf '%s\\n' "$@" |
        xargs --max-procs "$(nproc)" --max-args 1 ctr --namespace k8s.io snapshots unpack
"""
