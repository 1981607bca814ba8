"""Dapr's own services: placement, which hosts actors, and scheduler, which keeps jobs."""

from waybill import ports
from waybill.parts.command import infrastructure
from waybill.processes import Supervised
from waybill.project import Project
from waybill.runtime.install import DaprRuntime
from waybill.waiting import answers

_LOOPBACK = (
    *("--listen-address", ports.HOST),
    *("--healthz-listen-address", ports.HOST),
    *("--metrics-listen-address", ports.HOST),
)
_THRIFTY = {"GOMAXPROCS": "1"}


def placement(project: Project, runtime: DaprRuntime) -> Supervised:
    argv = [
        str(runtime.binary("placement")),
        *_LOOPBACK,
        *("--port", str(ports.PLACEMENT)),
        *("--healthz-port", str(ports.PLACEMENT_HEALTH)),
        *("--metrics-port", str(ports.PLACEMENT_METRICS)),
        *("--initial-cluster", f"dapr-placement-0={ports.HOST}:{ports.PLACEMENT_RAFT}"),
    ]
    return Supervised(
        "placement",
        infrastructure(project, "placement", argv, _THRIFTY),
        _healthy(ports.PLACEMENT_HEALTH),
        ports=[ports.PLACEMENT],
    )


def scheduler(project: Project, runtime: DaprRuntime) -> Supervised:
    peer = f"http://{ports.HOST}:{ports.SCHEDULER_ETCD_PEER}"
    argv = [
        str(runtime.binary("scheduler")),
        *_LOOPBACK,
        *("--port", str(ports.SCHEDULER)),
        *("--healthz-port", str(ports.SCHEDULER_HEALTH)),
        *("--metrics-port", str(ports.SCHEDULER_METRICS)),
        *("--override-broadcast-host-port", f"{ports.HOST}:{ports.SCHEDULER}"),
        *("--etcd-data-dir", str(project.state / "scheduler")),
        *("--etcd-client-listen-address", ports.HOST),
        *("--etcd-client-port", str(ports.SCHEDULER_ETCD_CLIENT)),
        *("--etcd-initial-cluster", f"dapr-scheduler-server-0={peer}"),
    ]
    return Supervised(
        "scheduler",
        infrastructure(project, "scheduler", argv, _THRIFTY),
        _healthy(ports.SCHEDULER_HEALTH),
        ports=[ports.SCHEDULER],
    )


def _healthy(port: int):
    return answers(f"http://{ports.HOST}:{port}/healthz")
