"""Who reaches whom, by the NetworkPolicies and the pods' labels: all that is needed, and no more.

What is needed follows from what Dapr is told: its access control and the scopes of its components.
"""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import pytest
from gateway.routing import AREAS
from waybill import project

Documents: TypeAlias = list[Any]
Cluster: TypeAlias = Callable[[str], Documents]

INVOCATION = 50002
CONTROL_PLANE = (50001, 50005, 50006, 6500)
POSTGRES, RABBITMQ, VALKEY = 5432, 5672, 6379
METRICS = 9090
INSIDE = "waybill"
SERVICES = {app.name: app.port for app in project.find().apps}


@dataclass(frozen=True)
class Pod:
    name: str
    labels: Mapping[str, str]
    ports: Mapping[str, int] = field(default_factory=dict[str, int])
    namespace: str = INSIDE
    namespace_labels: Mapping[str, str] = field(default_factory=dict[str, str])
    """Of another namespace than ours."""


@dataclass(frozen=True, order=True)
class Edge:
    source: str
    target: str
    port: int


OUTSIDE = (
    Pod("dns", {"k8s-app": "kube-dns"}, {"dns": 53}, "kube-system"),
    Pod("dapr", {}, {str(port): port for port in CONTROL_PLANE}, "dapr-system"),
    Pod("edge", {}, {}, "edge", {"waybill.example/edge": "true"}),
    Pod("prometheus", {}, {}, "monitoring", {"waybill.example/monitoring": "true"}),
    Pod("stranger", {"app.kubernetes.io/name": "gateway"}, {"http": 8000}, "default"),
)
BY_OPERATORS = {
    "Cluster": ("cnpg.io/cluster", {"postgres": POSTGRES}),
    "RabbitmqCluster": ("app.kubernetes.io/name", {"amqp": RABBITMQ, "metrics": 15692}),
}
"""What an operator makes of a resource: pods with its name in this label, and these ports."""


def pods(documents: Documents) -> Iterator[Pod]:
    for document in documents:
        name = document["metadata"]["name"]
        if document["kind"] in BY_OPERATORS:
            label, ports = BY_OPERATORS[document["kind"]]
            yield Pod(name, {label: name}, ports)
        if document["kind"] in {"Deployment", "StatefulSet", "Job"}:
            template = document["spec"]["template"]
            ports = {
                port["name"]: port["containerPort"]
                for container in template["spec"]["containers"]
                for port in container.get("ports", [])
            }
            if template["metadata"].get("annotations", {}).get("dapr.io/enabled"):
                ports |= {"dapr-internal": INVOCATION, "dapr-metrics": METRICS}
            yield Pod(name, template["metadata"]["labels"], ports)


def selects(selector: Any, labels: Mapping[str, str]) -> bool:
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In", "the only operator that is evaluated here"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return True


def is_peer(peer: Any, other: Pod) -> bool:
    if "ipBlock" in peer:
        return False  # of the internet; no pod is meant
    if "namespaceSelector" in peer:
        name = {"kubernetes.io/metadata.name": other.namespace}
        if not selects(peer["namespaceSelector"], name | dict(other.namespace_labels)):
            return False
    elif other.namespace != INSIDE:
        return False
    return selects(peer.get("podSelector", {}), other.labels)


def has_port(rule: Any, target: Pod, port: int) -> bool:
    if "ports" not in rule:
        return True
    wanted = (entry["port"] for entry in rule["ports"])
    return port in (target.ports.get(one) if isinstance(one, str) else one for one in wanted)


def open_to(
    policies: Documents, direction: str, pod: Pod, other: Pod, target: Pod, port: int
) -> bool:
    """Kubernetes' own rule: what no policy selects is open, what one selects is what they allow."""
    if pod.namespace != INSIDE:
        return True
    sides = {"Ingress": ("ingress", "from"), "Egress": ("egress", "to")}
    rules, peers = sides[direction]
    mine = [
        policy["spec"]
        for policy in policies
        if direction in policy["spec"]["policyTypes"]
        and selects(policy["spec"]["podSelector"], pod.labels)
    ]
    return not mine or any(
        has_port(rule, target, port) and any(is_peer(peer, other) for peer in rule[peers])
        for spec in mine
        for rule in spec.get(rules, [])
    )


def edges(documents: Documents) -> set[Edge]:
    policies = [d for d in documents if d["kind"] == "NetworkPolicy"]
    everybody = [*pods(documents), *OUTSIDE]
    return {
        Edge(source.name, target.name, port)
        for source in everybody
        for target in everybody
        for port in target.ports.values()
        if source is not target
        and INSIDE in {source.namespace, target.namespace}
        and open_to(policies, "Egress", source, target, target, port)
        and open_to(policies, "Ingress", target, source, target, port)
    }


def callees(path: str) -> set[str]:
    """The services that have a route of access control."""
    first, _, rest = path.strip("/").partition("/")
    if first == "internal":
        owner = rest.partition("/")[0]
        return {owner} if owner in SERVICES else {"catalog"}
    if first == ".well-known":
        return {"users"}
    if path == "/openapi.json":
        return {area.app_id for area in AREAS.values()}
    return {AREAS[first].app_id}


def invocations(documents: Documents) -> Iterator[Edge]:
    (configuration,) = [d for d in documents if d["kind"] == "Configuration"]
    for policy in configuration["spec"]["accessControl"]["policies"]:
        for operation in policy["operations"]:
            for callee in callees(operation["name"]) - {policy["appId"]}:
                yield Edge(policy["appId"], callee, INVOCATION)


def scopes(documents: Documents, name: str) -> set[str]:
    kinds = {"Component", "HTTPEndpoint"}
    (found,) = [d for d in documents if d["kind"] in kinds and d["metadata"]["name"] == name]
    return set(found["scopes"])


def needed(documents: Documents) -> Iterator[Edge]:
    names = {pod.name for pod in pods(documents)}
    yield from invocations(documents)
    for component in ("pubsub", "dead-letters"):
        yield from (Edge(app, "rabbitmq", RABBITMQ) for app in scopes(documents, component))
    for component in ("statestore", "configstore"):
        yield from (Edge(app, "valkey", VALKEY) for app in scopes(documents, component))
    for database in project.find().databases:
        yield Edge(database, "postgres", POSTGRES)
        yield Edge(f"{database}-migration", "postgres", POSTGRES)
    yield Edge("provisioning", "postgres", POSTGRES)
    if "mail" in names:
        yield from (Edge(app, "mail", 2525) for app in scopes(documents, "email"))
        yield from (Edge(app, "provider", 8090) for app in scopes(documents, "payment-provider"))
        yield Edge("provider", "gateway", SERVICES["gateway"])
    for name in names:
        yield Edge(name, "dns", 53)
    for service, port in SERVICES.items():
        yield from (Edge(service, "dapr", control) for control in CONTROL_PLANE)
        yield from (Edge("prometheus", service, p) for p in (port, METRICS))
    yield Edge("prometheus", "rabbitmq", 15692)
    yield Edge("edge", "gateway", SERVICES["gateway"])
    yield Edge("edge", "dashboard", SERVICES["dashboard"])


def surplus(documents: Documents) -> set[Edge]:
    return edges(documents) - set(needed(documents))


def missing(documents: Documents) -> set[Edge]:
    return set(needed(documents)) - edges(documents)


@pytest.mark.parametrize("overlay", ["dev", "local", "prod"])
def test_all_that_is_needed_is_open_and_nothing_else(overlay: str, built: Cluster) -> None:
    documents = built(overlay)
    assert sorted(missing(documents)) == []
    assert sorted(surplus(documents)) == []


def test_the_next_gateway_is_reached_as_the_stable_one_is(built: Cluster) -> None:
    def of(name: str) -> set[tuple[str, str, int]]:
        return {
            (e.source.replace(name, ""), e.target.replace(name, ""), e.port)
            for e in edges(built("prod+canary"))
            if name in (e.source, e.target)
        }

    assert of("gateway-next") == of("gateway")


def test_four_reach_the_world_outside(built: Cluster) -> None:
    """The mail server, the payment provider; and, for operators, the API server and the backups."""
    documents = built("prod")
    selectors = [
        d["spec"]["podSelector"]
        for d in documents
        if d["kind"] == "NetworkPolicy" and "ipBlock" in str(d["spec"].get("egress"))
    ]
    free = {pod.name for pod in pods(documents) if any(selects(s, pod.labels) for s in selectors)}
    assert free == {"notifications", "payments", "postgres", "rabbitmq"}


def policy(documents: Documents, name: str) -> Any:
    found = [d for d in documents if d["kind"] == "NetworkPolicy" and d["metadata"]["name"] == name]
    return found[0]["spec"]


def remove(name: str, documents: Documents) -> None:
    documents[:] = [
        d for d in documents if d["kind"] != "NetworkPolicy" or d["metadata"]["name"] != name
    ]


def anybody(name: str, documents: Documents) -> None:
    policy(documents, name)["ingress"][0]["from"] = [{"podSelector": {}}]


def of_any_namespace(documents: Documents) -> None:
    policy(documents, "edge-to-gateway")["ingress"][0]["from"] = [{"namespaceSelector": {}}]


Rule: TypeAlias = Callable[[Documents], set[Edge]]
BROKEN: dict[str, tuple[Rule, Callable[[Documents], object]]] = {
    "database for everybody": (
        surplus,
        lambda d: (anybody("postgres", d), policy(d, "to-postgres").update(podSelector={})),
    ),
    "callee for everybody": (surplus, partial(anybody, "callers-of-payments")),
    "gateway for every namespace": (surplus, of_any_namespace),
    "no names": (missing, partial(remove, "names")),
    "no control plane": (missing, partial(remove, "sidecars")),
    "callee for nobody": (missing, partial(remove, "callers-of-catalog")),
    "store that nobody may call": (missing, partial(remove, "to-valkey")),
    "webhooks that are not let in": (missing, partial(remove, "provider-to-gateway")),
}


@pytest.mark.parametrize("mistake", BROKEN)
def test_mistake_is_found(mistake: str, built: Cluster) -> None:
    rule, break_it = BROKEN[mistake]
    documents = deepcopy(built("local"))
    break_it(documents)
    assert rule(documents)
