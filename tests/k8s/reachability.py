"""Who reaches whom, by NetworkPolicies and the labels of pods, as Kubernetes rules it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from itertools import product
from typing import Any

from k8s.manifests import IN_THE_MESH, WORKLOADS, Documents, matches, of, template

INVOCATION = 50002
CONTROL_PLANE = (50001, 50005, 50006, 6500)
POSTGRES, RABBITMQ = 5432, 5672
METRICS = 9090
HTTPS, API_SERVER, SMTP = 443, 6443, 587
INSTANCE_MANAGER, BETWEEN_BROKERS, SOLVER = 8000, (4369, 25672), 8089
ISTIOD, ISTIO_AGENT, ISTIO_STATUS = 15012, 15020, 15021
INSIDE = "waybill"


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


def edges(documents: Documents, *others: Pod) -> set[Edge]:
    policies = of(documents, "NetworkPolicy")
    everybody = [*pods(documents), *others, *OUTSIDE]
    return {
        Edge(source.name, target.name, port)
        for source, target in product(everybody, everybody)
        for port in target.ports.values()
        if (source is not target or source.has_peers)
        and INSIDE in {source.namespace, target.namespace}
        and open_to(policies, "Egress", source, target, target, port)
        and open_to(policies, "Ingress", target, source, target, port)
    }
