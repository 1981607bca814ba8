"""What is started in which order inside a new cluster: a node, Dapr, the platform."""

from waybill.cluster import deploy, forward, images, programs
from waybill.cluster.deploy import Target
from waybill.cluster.node import Node
from waybill.cluster.programs import DAPR_VERSION, Programs
from waybill.project import Project
from waybill.supervisor import Supervisor
from waybill.waiting import until

_NODE_SECONDS = 60


async def start(project: Project, supervisor: Supervisor) -> None:
    """Returns when the platform is ready; a PlatformError says what is not, and why."""
    available = programs.find()
    node = Node(project, available)
    target = _target(project, node, available)
    await supervisor.bring_up(node.containerd())
    await _node(node, supervisor)
    await deploy.install_dapr(target, supervisor.board)
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


def _target(project: Project, node: Node, available: Programs) -> Target:
    return Target(
        project,
        node.kubectl,
        helm=[available["helm"], "--kubeconfig", str(node.kubeconfig)],
        chart=[str(available.dapr_chart)],
        settings=[f"--set=global.registry={images.DAPR_REGISTRY},global.tag={DAPR_VERSION}"],
        overlay=images.OVERLAY,
    )
