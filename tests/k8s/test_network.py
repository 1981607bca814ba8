"""Who reaches whom, by the NetworkPolicies and the pods' labels: all that is needed, and no more.

What is needed follows from what Dapr is told: its access control and the scopes of its components.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address, ip_network
from itertools import product
from typing import Any, TypeAlias

import pytest
from gateway.routing import AREAS
from k8s.manifests import (
    IN_THE_MESH,
    WORKLOADS,
    Cluster,
    Documents,
    drop,
    matches,
    named,
    of,
    template,
)
from waybill import project

INVOCATION = 50002
CONTROL_PLANE = (50001, 50005, 50006, 6500)
POSTGRES, RABBITMQ, VALKEY = 5432, 5672, 6379
METRICS = 9090
HTTPS, API_SERVER, SMTP = 443, 6443, 587
INSTANCE_MANAGER, BETWEEN_BROKERS, SOLVER = 8000, (4369, 25672), 8089
ISTIOD, ISTIO_AGENT, ISTIO_STATUS = 15012, 15020, 15021
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
    address: str = "10.244.0.1"
    has_peers: bool = False
    """Whether there are several, which call each other."""


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
    Pod("keda", {}, {}, "keda"),
    Pod("cnpg", {}, {}, "cnpg-system"),
    Pod("istiod", {}, {"xds": ISTIOD}, "istio-system"),
    Pod("stranger", {"app.kubernetes.io/name": "gateway"}, {"http": 8000}, "default"),
    Pod(
        "api-server",
        {},
        {"https": HTTPS, "secure": API_SERVER, "smtp": SMTP},
        "no pod",
        address="10.96.0.1",
    ),
    Pod("world", {}, {"https": HTTPS, "smtp": SMTP}, "no pod", address="203.0.113.1"),
)


def of_an_operator(document: Any) -> Iterator[Pod]:
    """What it makes of a resource: labels and ports."""
    name = document["metadata"]["name"]
    match document["kind"]:
        case "Cluster":
            ports = {"postgres": POSTGRES, "status": INSTANCE_MANAGER, "metrics": 9187}
            yield Pod(name, {"cnpg.io/cluster": name}, ports, has_peers=True)
        case "RabbitmqCluster":
            ports = {"amqp": RABBITMQ, "metrics": 15692}
            ports |= {str(port): port for port in BETWEEN_BROKERS}
            yield Pod(name, {"app.kubernetes.io/name": name}, ports, has_peers=True)
        case "ClusterIssuer":
            yield Pod("solver", {"acme.cert-manager.io/http01-solver": "true"}, {"http": SOLVER})
        case "Gateway" if document["spec"]["gatewayClassName"] == "istio":
            label = {"gateway.networking.k8s.io/gateway-name": name}
            yield Pod(f"{name}-istio", label, {"http": 80, "https": HTTPS, "status": ISTIO_STATUS})
        case _:
            pass


def pods(documents: Documents) -> Iterator[Pod]:
    for document in documents:
        yield from of_an_operator(document)
        if document["kind"] in WORKLOADS:
            pod = template(document)
            ports = {
                port["name"]: port["containerPort"]
                for container in pod["spec"]["containers"]
                for port in container.get("ports", [])
            }
            if pod["metadata"].get("annotations", {}).get("dapr.io/enabled"):
                ports |= {"dapr-internal": INVOCATION, "dapr-metrics": METRICS}
            if IN_THE_MESH in pod["metadata"]["labels"]:
                ports |= {"istio-agent": ISTIO_AGENT}
            yield Pod(document["metadata"]["name"], pod["metadata"]["labels"], ports)


def is_peer(peer: Any, other: Pod) -> bool:
    if block := peer.get("ipBlock"):
        address = ip_address(other.address)
        return address in ip_network(block["cidr"]) and not any(
            address in ip_network(excepted) for excepted in block.get("except", [])
        )
    if "namespaceSelector" in peer:
        name = {"kubernetes.io/metadata.name": other.namespace}
        if not matches(peer["namespaceSelector"], name | dict(other.namespace_labels)):
            return False
    elif other.namespace != INSIDE:
        return False
    return matches(peer.get("podSelector", {}), other.labels)


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
        and matches(policy["spec"]["podSelector"], pod.labels)
    ]
    return not mine or any(
        has_port(rule, target, port)
        and (peers not in rule or any(is_peer(peer, other) for peer in rule[peers]))
        for spec in mine
        for rule in spec.get(rules, [])
    )


def edges(documents: Documents) -> set[Edge]:
    policies = of(documents, "NetworkPolicy")
    everybody = [*pods(documents), *OUTSIDE]
    return {
        Edge(source.name, target.name, port)
        for source, target in product(everybody, everybody)
        for port in target.ports.values()
        if (source is not target or source.has_peers)
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
    in_the_mesh = {pod.name for pod in pods(documents) if IN_THE_MESH in pod.labels}
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
        yield Edge("prometheus", service, ISTIO_AGENT if service in in_the_mesh else port)
        yield Edge("prometheus", service, METRICS)
    yield Edge("prometheus", "rabbitmq", 15692)
    yield from needed_by_operators(documents)
    yield from needed_by_the_edge(documents)


def needed_by_operators(documents: Documents) -> Iterator[Edge]:
    if "RabbitmqCluster" not in {document["kind"] for document in documents}:
        return
    yield Edge("notifications", "world", SMTP)
    yield Edge("payments", "world", HTTPS)
    yield Edge("keda", "rabbitmq", RABBITMQ)
    yield Edge("prometheus", "postgres", 9187)
    yield from (Edge("rabbitmq", "rabbitmq", port) for port in BETWEEN_BROKERS)
    for source in ("cnpg", "postgres"):
        yield from (Edge(source, "postgres", port) for port in (POSTGRES, INSTANCE_MANAGER))
    for store in ("postgres", "rabbitmq"):
        # The API server; no label names it, so all that has one of its ports can be reached.
        yield from (Edge(store, "api-server", port) for port in (HTTPS, API_SERVER))
        yield Edge(store, "world", HTTPS)


def needed_by_the_edge(documents: Documents) -> Iterator[Edge]:
    names = {pod.name for pod in pods(documents)}
    edge = "waybill-istio" if "waybill-istio" in names else "edge"
    yield Edge(edge, "gateway", SERVICES["gateway"])
    if "solver" in names:
        yield Edge(edge, "solver", SOLVER)
    if edge in names:  # open to all, and so to those who may leave
        sources = {pod.name for pod in OUTSIDE} | {"postgres", "rabbitmq"}
        yield from (Edge(source, edge, HTTPS) for source in sources)
        yield from (Edge(pod.name, edge, port) for pod in OUTSIDE for port in (80, ISTIO_STATUS))
        yield from (Edge(source, "istiod", ISTIOD) for source in (edge, "gateway"))
        yield Edge("istiod", "users", SERVICES["users"])


def surplus(documents: Documents) -> set[Edge]:
    return edges(documents) - set(needed(documents))


def missing(documents: Documents) -> set[Edge]:
    return set(needed(documents)) - edges(documents)


@pytest.mark.parametrize("overlay", ["dev", "local", "prod", "prod+istio", "prod+kong"])
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


def policy(documents: Documents, name: str) -> Any:
    return named(documents, "NetworkPolicy")[name]["spec"]


def remove(name: str, documents: Documents) -> None:
    drop(documents, "NetworkPolicy", name)


def anybody(name: str, documents: Documents) -> None:
    policy(documents, name)["ingress"][0]["from"] = [{"podSelector": {}}]


def of_any_namespace(documents: Documents) -> None:
    policy(documents, "edge-to-gateway")["ingress"][0]["from"] = [{"namespaceSelector": {}}]


def to_any_address(documents: Documents) -> None:
    policy(documents, "to-mail")["egress"][0]["to"][0]["ipBlock"].pop("except")


Rule: TypeAlias = Callable[[Documents], set[Edge]]
BROKEN: dict[str, tuple[str, Rule, Callable[[Documents], object]]] = {
    "database for everybody": (
        "local",
        surplus,
        lambda d: (anybody("postgres", d), policy(d, "to-postgres").update(podSelector={})),
    ),
    "callee for everybody": ("local", surplus, partial(anybody, "callers-of-payments")),
    "gateway for every namespace": ("local", surplus, of_any_namespace),
    "no names": ("local", missing, partial(remove, "names")),
    "no control plane": ("local", missing, partial(remove, "sidecars")),
    "callee for nobody": ("local", missing, partial(remove, "callers-of-catalog")),
    "store that nobody may call": ("local", missing, partial(remove, "to-valkey")),
    "webhooks that are not let in": ("local", missing, partial(remove, "provider-to-gateway")),
    "certificate that nobody issues": ("prod", missing, partial(remove, "edge-to-acme-solver")),
    "broker that KEDA cannot ask": (
        "prod",
        missing,
        lambda d: policy(d, "rabbitmq")["ingress"][0]["from"].pop(),
    ),
    "mail to any address": ("prod", surplus, to_any_address),
    "no way out": ("prod", missing, partial(remove, "to-provider")),
    "edge that nobody reaches": ("prod+istio", missing, partial(remove, "edge")),
    "edge in no mesh": ("prod+istio", missing, partial(remove, "gateway-to-istiod")),
    "tokens without keys": ("prod+istio", missing, partial(remove, "istiod-to-keys")),
    "gateway for another edge": ("prod+istio", surplus, of_any_namespace),
    "edge that no load balancer finds well": (
        "prod+istio",
        missing,
        lambda d: policy(d, "edge")["ingress"][0]["ports"].pop(),
    ),
    "metrics that nobody reads": ("prod+istio", missing, partial(remove, "metrics-of-gateway")),
    "metrics past the mesh": (
        "prod+istio",
        surplus,
        lambda d: policy(d, "metrics")["podSelector"].pop("matchExpressions"),
    ),
}


@pytest.mark.parametrize("mistake", BROKEN)
def test_mistake_is_found(mistake: str, cluster: Cluster) -> None:
    overlay, rule, break_it = BROKEN[mistake]
    documents = cluster(overlay)
    break_it(documents)
    assert rule(documents)
