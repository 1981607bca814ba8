"""What holds production up: copies, connections, backups, alerts, and settings to go back to."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from chassis.settings import Settings
from k8s.manifests import (
    PLATFORMS,
    Cluster,
    Documents,
    Rule,
    matches,
    named,
    of,
    services,
    template,
)
from waybill import project

VARIANTS = [overlay for overlay in PLATFORMS if overlay.startswith("prod")]
ZONE = "topology.kubernetes.io/zone"
BESIDE_THE_POOLS = 60
"""Connections: the dashboard's listeners, migrations, the operator, whoever looks."""
OF_THE_OPERATORS = {
    "cnpg_collector_up",
    "cnpg_collector_last_available_backup_timestamp",
    "cnpg_pg_stat_archiver_failed_count",
    "rabbitmq_alarms_memory_used_watermark",
    "rabbitmq_alarms_free_disk_space_watermark",
    "rabbitmq_alarms_file_descriptor_limit",
}
"""The metrics of theirs that alerts are about, by CloudNativePG 1.27 and RabbitMQ 4.1."""


def single(documents: Documents) -> Iterator[str]:
    """Envoy Gateway and Istio make one pod of an edge. Kong's are its chart's matter."""
    (gateway,) = of(documents, "Gateway")
    kind = gateway["spec"].get("infrastructure", {}).get("parametersRef", {}).get("kind")
    match gateway["spec"]["gatewayClassName"], kind:
        case "eg", "EnvoyProxy":
            provider = named(documents, kind)["edge"]["spec"]["provider"]["kubernetes"]
            least, budget = provider["envoyDeployment"].get("replicas", 1), provider.get("envoyPDB")
        case "istio", "ConfigMap":
            told = named(documents, kind)["waybill-istio"]["data"]
            read = {key: yaml.safe_load(text)["spec"] for key, text in told.items()}
            least = read.get("horizontalPodAutoscaler", {}).get("minReplicas", 1)
            budget = read.get("podDisruptionBudget")
        case "kong", None:
            return
        case _:
            least, budget = 1, None
    if least < 2:
        yield "the edge is one pod"
    if not budget:
        yield "all of the edge may be evicted at once"


def lonely(documents: Documents) -> Iterator[str]:
    """A queue that was declared before all nodes had joined gets the others later."""
    for cluster in of(documents, "RabbitmqCluster"):
        lines = cluster["spec"]["rabbitmq"]["additionalConfig"].splitlines()
        told = dict(line.split(" = ") for line in lines if not line.startswith("#"))
        membership = "quorum_queue.continuous_membership_reconciliation"
        if told.get(f"{membership}.enabled") != "true":
            yield "a queue keeps the members that it was declared with"
        if told.get(f"{membership}.target_group_size") != str(cluster["spec"]["replicas"]):
            yield "a queue is not on every node"


def zoned(documents: Documents) -> Iterator[str]:
    for cluster in of(documents, "Cluster"):
        labels = {"cnpg.io/cluster": cluster["metadata"]["name"]}
        spread = cluster["spec"].get("topologySpreadConstraints", [])
        if not any(
            s["topologyKey"] == ZONE and matches(s["labelSelector"], labels) for s in spread
        ):
            yield "all instances may lie in one zone"


def bytes_of(quantity: str) -> int:
    [(number, unit)] = re.findall(r"^(\d+)([MG])[iB]$", quantity)
    return int(number) * 1024 ** {"M": 2, "G": 3}[unit]


def overdrawn(documents: Documents) -> Iterator[str]:
    """In a rollout as many pods leave as stay, each with its pool."""
    pool = Settings.model_fields["database_pool_size"].default
    scalers = of(documents, "HorizontalPodAutoscaler", "ScaledObject")
    most = {
        spec["scaleTargetRef"]["name"]: spec.get("maxReplicas") or spec["maxReplicaCount"]
        for spec in (scaler["spec"] for scaler in scalers)
    }
    pods = sum(
        2 * most[workload["metadata"]["name"]]
        for workload in services(documents)
        if "waybill.example/database" in template(workload)["metadata"]["labels"]
    )
    for cluster in of(documents, "Cluster"):
        parameters = cluster["spec"]["postgresql"]["parameters"]
        connections = int(parameters["max_connections"])
        if pods * pool + BESIDE_THE_POOLS > connections:
            yield f"{pods} pods want more than {connections} connections"
        # A connection is a process of some 8 MiB.
        needed = bytes_of(parameters["shared_buffers"]) + connections * 8 * 1024**2
        if needed > bytes_of(cluster["spec"]["resources"]["limits"]["memory"]):
            yield f"{connections} connections want more memory"


def unsaved(documents: Documents) -> Iterator[str]:
    """Before the first base backup nothing can be restored."""
    for backup in of(documents, "ScheduledBackup"):
        if not backup["spec"].get("immediate"):
            yield "there is no backup until the first night"


def unnoticed(documents: Documents) -> Iterator[str]:
    """CloudNativePG looks again at a Secret that has this label, and at no other."""
    for called in ("postgres", "backup-credentials"):
        made = named(documents, "ExternalSecret")[called]["spec"]["target"].get("template", {})
        if "cnpg.io/reload" not in made.get("metadata", {}).get("labels", {}):
            yield f"{called} can be changed without effect"


def alerts(documents: Documents) -> dict[str, str]:
    (rule,) = of(documents, "PrometheusRule")
    return {one["alert"]: one["expr"] for group in rule["spec"]["groups"] for one in group["rules"]}


def unwatched(documents: Documents) -> Iterator[str]:
    """Nothing is measured of what is away: its absence has to be asked for, by name."""
    expressions = alerts(documents)
    away = expressions.get("NobodyAnswers", "")
    asked = re.findall(r'absent\(up{job="(.+?)",endpoint="(.+?)",\w+="(\w+)"}\)', away)
    apps = {app.name for app in project.find().apps}
    if {service for _, _, service in asked} != apps:
        yield "not every service is missed"
    monitor = named(documents, "PodMonitor")["services"]
    ports = {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]}
    if any(job != "waybill/services" or port not in ports for job, port, _ in asked):
        yield "nobody is asked there"
    if not re.search(r'max by \(\w+\) \(up{job="waybill/services",endpoint="http"}\) == 0', away):
        yield "who is there and does not answer is not missed"
    for store in ("DatabaseAway", "BrokerAway"):
        if "absent(" not in expressions.get(store, ""):
            yield f"{store} is not noticed"
    watched = set(re.findall(r"\b(?:cnpg|rabbitmq)_\w+", " ".join(expressions.values())))
    yield from (f"{metric}: of nobody, or not asked for" for metric in watched ^ OF_THE_OPERATORS)


def forgotten(documents: Documents) -> Iterator[str]:
    """A former ReplicaSet needs the settings that it was made with."""
    for settings in of(documents, "ConfigMap"):
        told = settings["metadata"].get("annotations", {})
        if told.get("argocd.argoproj.io/sync-options") != "Prune=false":
            yield f"{settings['metadata']['name']} goes while pods may go back to it"


RULES: tuple[Rule, ...] = (
    single,
    lonely,
    zoned,
    overdrawn,
    unsaved,
    unnoticed,
    unwatched,
    forgotten,
)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("overlay", VARIANTS)
def test_production_keeps_the_rule(overlay: str, rule: Rule, built: Cluster) -> None:
    assert list(rule(built(overlay))) == []


def test_what_goes_goes_after_what_takes_its_place(built: Cluster) -> None:
    (application,) = built("argocd")
    policy = application["spec"]["syncPolicy"]
    assert policy["automated"]["prune"]
    assert "PruneLast=true" in policy["syncOptions"]


def spec(documents: Documents, kind: str) -> Any:
    return of(documents, kind)[0]["spec"]


def proxy(documents: Documents) -> Any:
    return spec(documents, "EnvoyProxy")["provider"]["kubernetes"]


def without(word: str, documents: Documents) -> None:
    told = spec(documents, "RabbitmqCluster")["rabbitmq"]
    lines = told["additionalConfig"].splitlines()
    told["additionalConfig"] = "\n".join(line for line in lines if word not in line)


def unalerted(alert: str, documents: Documents) -> None:
    for group in spec(documents, "PrometheusRule")["groups"]:
        group["rules"] = [rule for rule in group["rules"] if rule["alert"] != alert]


def misspelt(word: str, documents: Documents) -> None:
    for group in spec(documents, "PrometheusRule")["groups"]:
        for rule in group["rules"]:
            rule["expr"] = rule["expr"].replace(word, f"{word}s")


def parameters(documents: Documents) -> Any:
    return spec(documents, "Cluster")["postgresql"]["parameters"]


BROKEN: dict[str, tuple[str, Rule, Callable[[Documents], object]]] = {
    "edge of nobody's number": (
        "prod",
        single,
        lambda d: spec(d, "Gateway").pop("infrastructure"),
    ),
    "edge of one": ("prod", single, lambda d: proxy(d)["envoyDeployment"].pop("replicas")),
    "edge without a budget": ("prod", single, lambda d: proxy(d).pop("envoyPDB")),
    "edge of one in the mesh": (
        "prod+istio",
        single,
        lambda d: named(d, "ConfigMap")["waybill-istio"]["data"].pop("horizontalPodAutoscaler"),
    ),
    "queues that stay alone": ("prod", lonely, lambda d: without(".enabled", d)),
    "queues on the first nodes": ("prod", lonely, lambda d: without(".target_group_size", d)),
    "database in one zone": (
        "prod",
        zoned,
        lambda d: spec(d, "Cluster").pop("topologySpreadConstraints"),
    ),
    "too few connections": (
        "prod",
        overdrawn,
        lambda d: parameters(d).update(max_connections="400"),
    ),
    "too many replicas": (
        "prod",
        overdrawn,
        lambda d: spec(d, "ScaledObject").update(maxReplicaCount=20),
    ),
    "too little memory": (
        "prod",
        overdrawn,
        lambda d: spec(d, "Cluster")["resources"]["limits"].update(memory="4Gi"),
    ),
    "no backup by day": ("prod", unsaved, lambda d: spec(d, "ScheduledBackup").pop("immediate")),
    "superuser of yesterday": (
        "prod",
        unnoticed,
        lambda d: named(d, "ExternalSecret")["postgres"]["spec"]["target"].pop("template"),
    ),
    "service that nobody misses": ("prod", unwatched, lambda d: misspelt("gateway", d)),
    "services that nobody asks": ("prod", unwatched, lambda d: misspelt("waybill/service", d)),
    "no alert at all": ("prod", unwatched, lambda d: unalerted("NobodyAnswers", d)),
    "broker that nobody misses": ("prod", unwatched, lambda d: unalerted("BrokerAway", d)),
    "metric that there is not": ("prod", unwatched, lambda d: misspelt("cnpg_collector_up", d)),
    "settings that go": (
        "prod",
        forgotten,
        lambda d: of(d, "ConfigMap")[0]["metadata"].pop("annotations"),
    ),
}


@pytest.mark.parametrize("mistake", BROKEN)
def test_mistake_is_found(mistake: str, cluster: Cluster) -> None:
    overlay, rule, break_it = BROKEN[mistake]
    documents = cluster(overlay)
    break_it(documents)
    assert list(rule(documents))


def test_every_rule_has_a_mistake() -> None:
    assert {rule for _, rule, _ in BROKEN.values()} == set(RULES)
