"""Which ports the platform listens on, all on the loopback address, and who else holds one."""

from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from waybill.project import Project

HOST = "127.0.0.1"

POSTGRES = 15432
VALKEY = 16379
RABBITMQ_AMQP = 15671
RABBITMQ_MANAGEMENT = 15672
RABBITMQ_DISTRIBUTION = 15669
RABBITMQ_EPMD = 14369
PLACEMENT = 6050
PLACEMENT_HEALTH = 6051
PLACEMENT_METRICS = 6052
PLACEMENT_RAFT = 6053
SCHEDULER = 6060
SCHEDULER_HEALTH = 6061
SCHEDULER_METRICS = 6062
SCHEDULER_ETCD_CLIENT = 6063
SCHEDULER_ETCD_PEER = 6064
SENTRY = 6070
SENTRY_HEALTH = 6071
SENTRY_METRICS = 6072
MAIL_SMTP = 2525
MAIL_HTTP = 8025
PROVIDER = 8090

RABBITMQ = {
    RABBITMQ_AMQP: "RabbitMQ",
    RABBITMQ_MANAGEMENT: "RabbitMQ management",
    RABBITMQ_DISTRIBUTION: "RabbitMQ distribution",
    RABBITMQ_EPMD: "RabbitMQ epmd",
}

_INFRASTRUCTURE = {
    POSTGRES: "PostgreSQL",
    VALKEY: "Valkey",
    PLACEMENT: "Dapr placement",
    PLACEMENT_HEALTH: "Dapr placement health",
    PLACEMENT_METRICS: "Dapr placement metrics",
    PLACEMENT_RAFT: "Dapr placement raft",
    SCHEDULER: "Dapr scheduler",
    SCHEDULER_HEALTH: "Dapr scheduler health",
    SCHEDULER_METRICS: "Dapr scheduler metrics",
    SCHEDULER_ETCD_CLIENT: "Dapr scheduler etcd client",
    SCHEDULER_ETCD_PEER: "Dapr scheduler etcd peer",
    SENTRY: "Dapr sentry",
    SENTRY_HEALTH: "Dapr sentry health",
    SENTRY_METRICS: "Dapr sentry metrics",
    MAIL_SMTP: "mail sink SMTP",
    MAIL_HTTP: "mail sink HTTP",
    PROVIDER: "payment provider simulator",
}


@dataclass(frozen=True)
class Conflict:
    port: int
    wanted_by: str
    pid: int | None
    holder: str

    def __str__(self) -> str:
        return f"Port {self.port} ({self.wanted_by}) is taken by {self.holder}"

    @property
    def fix(self) -> str:
        if self.pid is None:
            return f"find it with `sudo ss -ltnp 'sport = :{self.port}'` and stop it"
        return f"stop it, for example with `kill {self.pid}`"


def needed(project: Project, *, broker: bool = True) -> dict[int, str]:
    """Every port of the platform and what it is for; without `broker`, RabbitMQ is elsewhere."""
    ports = _INFRASTRUCTURE | (RABBITMQ if broker else {})
    for app in project.apps:
        ports[app.port] = app.name
        ports |= dict.fromkeys(app.sidecar_ports, f"{app.name} sidecar")
    return ports


def conflicts(wanted: dict[int, str], ours: Iterable[int] = ()) -> list[Conflict]:
    """The wanted ports that a process other than the pids in `ours` listens on."""
    listeners = _listeners()
    own = set(ours)
    return [
        Conflict(port, purpose, listeners[port], _describe(listeners[port]))
        for port, purpose in sorted(wanted.items())
        if port in listeners and listeners[port] not in own
    ]


def _listeners() -> dict[int, int | None]:
    """Listening port → pid, which is None for a process that we may not look into."""
    connections = psutil.net_connections(kind="tcp")
    return {c.laddr.port: c.pid for c in connections if c.status == psutil.CONN_LISTEN and c.laddr}


def _describe(pid: int | None) -> str:
    if pid is None:
        return "a process of another user"
    try:
        process = psutil.Process(pid)
        return f"{process.name()} (pid {pid}: {' '.join(process.cmdline())[:80]})"
    except psutil.Error:
        return f"pid {pid}"
