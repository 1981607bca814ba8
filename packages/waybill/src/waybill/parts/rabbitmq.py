"""A private RabbitMQ node: own ports, own data, own epmd, and none of the system's settings."""

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from waybill import ports
from waybill.credentials import PlatformSecrets, write_private
from waybill.errors import PlatformError
from waybill.parts.command import infrastructure
from waybill.processes import Layer, Supervised
from waybill.project import Project
from waybill.waiting import all_listen, answers

VHOST = "waybill"
PACKAGE = "rabbitmq-server"

_QUEUE_BYTES = 512 * 1024 * 1024  # some 300,000 events in each queue

_SERVERS = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "/opt/homebrew/sbin/rabbitmq-server")
"""Looked at before PATH: Debian's command on PATH insists on the system's own user."""

_WATCH = Path("k8s/base/stores/rabbitmq/topology/watch-raft.erl")
"""Within a checkout: what a node does when Raft, or a queue, gives up."""

_OPTIONS = (
    "-kernel inet_dist_use_interface {127,0,0,1} "
    f'-eval file:script(os:getenv("HOME")++"/{_WATCH.name}")'
)
"""Of Erlang. The start script takes every blank for the end of a word."""

_CONFIGURATION = """\
listeners.tcp.1 = {host}:{amqp}
management.tcp.ip = {host}
management.tcp.port = {management}
load_definitions = {definitions}
disk_free_limit.absolute = 200MB
raft.wal_max_size_bytes = 67108864
consumer_timeout = 10800000
log.file = false
log.console = true
log.console.level = warning
"""


def find_server() -> Path | None:
    candidates = (*_SERVERS, shutil.which("rabbitmq-server"))
    return next((Path(path) for path in candidates if path and Path(path).exists()), None)


def version(server: Path) -> tuple[int, ...]:
    """As its directory is named; empty where that says nothing."""
    named = re.search(r"rabbitmq_server-([\d.]+)", str(server.resolve()))
    return tuple(int(number) for number in named[1].split(".")) if named else ()


def processes(project: Project, secrets: PlatformSecrets) -> tuple[Supervised, Supervised]:
    """epmd, which tells Erlang nodes each other's ports, and the node itself.

    Left to itself the node would start an epmd that outlives it.
    """
    home = project.state / "rabbitmq"
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(project.root / _WATCH, home)
    _configure(home, secrets, dead_letter_topics(project))
    return _epmd(project), _node(project, home, secrets)


def _epmd(project: Project) -> Supervised:
    program = shutil.which("epmd")
    if program is None:
        raise PlatformError(
            "Erlang's epmd is missing.", fix="reinstall Erlang (Debian: erlang-base)"
        )
    argv = [program, "-port", str(ports.RABBITMQ_EPMD), "-address", ports.HOST]
    return Supervised(
        "epmd",
        infrastructure(project, "epmd", argv),
        all_listen(ports.RABBITMQ_EPMD),
        ports=[ports.RABBITMQ_EPMD],
        layer=Layer.FOUNDATION,
    )


def _node(project: Project, home: Path, secrets: PlatformSecrets) -> Supervised:
    server = find_server()
    if server is None:
        raise PlatformError("RabbitMQ is not installed.", fix="waybill doctor")
    login = aiohttp.encode_basic_auth(secrets.rabbitmq_user, secrets.rabbitmq_password)
    check = f"http://{ports.HOST}:{ports.RABBITMQ_MANAGEMENT}/api/health/checks"
    return Supervised(
        "rabbitmq",
        infrastructure(project, "rabbitmq", [str(server)], environment(home)),
        answers(f"{check}/port-listener/{ports.RABBITMQ_AMQP}", {"Authorization": login}),
        ports=[ports.RABBITMQ_AMQP, ports.RABBITMQ_MANAGEMENT, ports.RABBITMQ_DISTRIBUTION],
        grace_seconds=20,
    )


def environment(home: Path) -> dict[str, str]:
    """Of the node, and of `rabbitmqctl`, which finds the node by it."""
    return {
        "HOME": str(home),  # of the Erlang cookie
        "RABBITMQ_NODENAME": "waybill@localhost",
        "RABBITMQ_CONF_ENV_FILE": str(home / "no-rabbitmq-env.conf"),
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "no-advanced.config"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(home / "generated"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(home / "data"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_NODE_IP_ADDRESS": ports.HOST,
        "RABBITMQ_NODE_PORT": str(ports.RABBITMQ_AMQP),
        "RABBITMQ_DIST_PORT": str(ports.RABBITMQ_DISTRIBUTION),
        "ERL_EPMD_PORT": str(ports.RABBITMQ_EPMD),
        "ERL_EPMD_ADDRESS": ports.HOST,
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _OPTIONS,
        # The start script becomes the node instead of waiting for it as its parent.
        "RUNNING_UNDER_SYSTEMD": "1",
    }


def dead_letter_topics(project: Project) -> dict[str, str]:
    """Where each subscriber's sidecar puts what it cannot deliver, by the name of the app."""
    files = (project.root / "dapr" / "subscriptions").glob("*.yaml")
    subscriptions = [yaml.safe_load(file.read_text()) for file in sorted(files)]
    return {app: s["spec"]["deadLetterTopic"] for s in subscriptions for app in s["scopes"]}


def _configure(home: Path, secrets: PlatformSecrets, dead_letters: dict[str, str]) -> None:
    definitions = home / "definitions.json"
    write_private(definitions, json.dumps(_definitions(secrets, dead_letters), indent=2))
    write_private(home / "enabled_plugins", "[rabbitmq_management].\n")
    write_private(
        home / "rabbitmq.conf",
        _CONFIGURATION.format(
            host=ports.HOST,
            amqp=ports.RABBITMQ_AMQP,
            management=ports.RABBITMQ_MANAGEMENT,
            definitions=definitions,
        ),
    )


def _definitions(secrets: PlatformSecrets, dead_letters: dict[str, str]) -> dict[str, object]:
    return {**users(secrets), **topology(dead_letters)}


def users(secrets: PlatformSecrets) -> dict[str, object]:
    """One user in one virtual host; with definitions at hand the node makes no `guest`."""
    user = secrets.rabbitmq_user
    return {
        "users": [
            {
                "name": user,
                "password_hash": _password_hash(secrets.rabbitmq_password),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": ["monitoring", "policymaker"],
            }
        ],
        "permissions": [
            {"user": user, "vhost": VHOST, "configure": ".*", "write": ".*", "read": ".*"}
        ],
    }


def topology(dead_letters: dict[str, str]) -> dict[str, object]:
    """Queues are bounded: past `_QUEUE_BYTES` a publish is refused, and nothing that lies there is
    dropped for it. The event log still has what was refused.
    """
    return {
        "vhosts": [{"name": VHOST}],
        "policies": [
            {
                "vhost": VHOST,
                "name": "bounded",
                "pattern": ".*",
                "apply-to": "queues",
                "priority": 0,
                "definition": {"max-length-bytes": _QUEUE_BYTES, "overflow": "reject-publish"},
            }
        ],
        **_dead_letter_queues(dead_letters),
    }


def _dead_letter_queues(topics: dict[str, str]) -> dict[str, Sequence[dict[str, Any]]]:
    """As each sidecar declares its own; until it does, a dead letter would have nowhere to go."""
    durable = {"vhost": VHOST, "durable": True, "auto_delete": False}
    quorum = {"x-queue-type": "quorum"}
    return {
        "exchanges": [
            {**durable, "name": topic, "type": "topic", "internal": False, "arguments": {}}
            for topic in topics.values()
        ],
        "queues": [
            {**durable, "name": f"{app}-{topic}", "type": "quorum", "arguments": quorum}
            for app, topic in topics.items()
        ],
        "bindings": [
            {
                "vhost": VHOST,
                "source": topic,
                "destination": f"{app}-{topic}",
                "destination_type": "queue",
                "routing_key": "",
                "arguments": {},
            }
            for app, topic in topics.items()
        ],
    }


def _password_hash(password: str) -> str:
    """RabbitMQ's format; a salt made from the password keeps the file the same between starts.

    The password is 192 random bits, so a salt has nothing to protect here.
    """
    salt = hashlib.sha256(b"salt" + password.encode()).digest()[:4]
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
