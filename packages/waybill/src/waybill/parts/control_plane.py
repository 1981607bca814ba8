"""Dapr's own services: sentry, which gives sidecars their certificates, placement and scheduler."""

from pathlib import Path

from waybill import ports
from waybill.parts.command import infrastructure
from waybill.processes import Supervised
from waybill.project import Project
from waybill.runtime.install import DaprRuntime
from waybill.waiting import answers

SENTRY_ADDRESS = f"{ports.HOST}:{ports.SENTRY}"
_TRUST_DOMAIN = "localhost"
_THRIFTY = {"GOMAXPROCS": "1"}


def trust_anchors(project: Project) -> Path:
    """The certificate authority that sentry makes at its first start."""
    return project.state / "sentry" / "ca.crt"


def sentry(project: Project, runtime: DaprRuntime) -> Supervised:
    credentials = trust_anchors(project).parent
    credentials.mkdir(parents=True, exist_ok=True, mode=0o700)
    options = (
        *("--config", str(project.root / "dapr" / "config.yaml")),
        *("--issuer-credentials", str(credentials)),
        *("--trust-domain", _TRUST_DOMAIN),
    )
    listening = (ports.SENTRY, ports.SENTRY_HEALTH, ports.SENTRY_METRICS)
    return _service(project, runtime, "sentry", listening, options)


def placement(project: Project, runtime: DaprRuntime) -> Supervised:
    options = (
        *("--initial-cluster", f"dapr-placement-0={ports.HOST}:{ports.PLACEMENT_RAFT}"),
        *_tls(project),
    )
    listening = (ports.PLACEMENT, ports.PLACEMENT_HEALTH, ports.PLACEMENT_METRICS)
    return _service(project, runtime, "placement", listening, options)


def scheduler(project: Project, runtime: DaprRuntime) -> Supervised:
    peer = f"http://{ports.HOST}:{ports.SCHEDULER_ETCD_PEER}"
    home = project.state / "scheduler"
    options = (
        *("--override-broadcast-host-port", f"{ports.HOST}:{ports.SCHEDULER}"),
        *("--etcd-data-dir", str(home / "data")),
        *("--etcd-client-listen-address", ports.HOST),
        *("--etcd-client-port", str(ports.SCHEDULER_ETCD_CLIENT)),
        *("--etcd-initial-cluster", f"dapr-scheduler-server-0={peer}"),
        *("--identity-directory-write", str(home / "identity")),
        *_tls(project),
    )
    listening = (ports.SCHEDULER, ports.SCHEDULER_HEALTH, ports.SCHEDULER_METRICS)
    return _service(project, runtime, "scheduler", listening, options)


def _tls(project: Project) -> tuple[str, ...]:
    return (
        "--tls-enabled",
        *("--trust-domain", _TRUST_DOMAIN),
        *("--trust-anchors-file", str(trust_anchors(project))),
        *("--sentry-address", SENTRY_ADDRESS),
    )


def _service(
    project: Project,
    runtime: DaprRuntime,
    name: str,
    listening: tuple[int, int, int],
    options: tuple[str, ...],
) -> Supervised:
    """`listening`: the service itself, its health, its metrics."""
    service, health, metrics = listening
    argv = (
        str(runtime.binary(name)),
        *("--listen-address", ports.HOST, "--port", str(service)),
        *("--healthz-listen-address", ports.HOST, "--healthz-port", str(health)),
        *("--metrics-listen-address", ports.HOST, "--metrics-port", str(metrics)),
        *options,
    )
    return Supervised(
        name,
        infrastructure(project, name, argv, _THRIFTY),
        answers(f"http://{ports.HOST}:{health}/healthz"),
        ports=listening,
    )
