"""Who reaches whom, by the NetworkPolicies and the pods' labels: all that is needed, and no more.

What is needed follows from what Dapr is told: its access control and the scopes of its components.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

import pytest
from gateway.routing import AREAS
from k8s.manifests import IN_THE_MESH, Cluster, Documents, drop, named
from k8s.reachability import (
    API_SERVER,
    BETWEEN_BROKERS,
    CONTROL_PLANE,
    HTTPS,
    INSTANCE_MANAGER,
    INVOCATION,
    ISTIO_AGENT,
    ISTIO_STATUS,
    ISTIOD,
    METRICS,
    OUTSIDE,
    POSTGRES,
    RABBITMQ,
    SMTP,
    SOLVER,
    Edge,
    edges,
    pods,
)
from waybill import project
from waybill.cluster.namespaces import NODE_ADDRESS

VALKEY = 6379
SERVICES = {app.name: app.port for app in project.find().apps}


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
    # The API server; no label names it, so all that has one of its ports can be reached.
    yield from (Edge("postgres", "api-server", port) for port in (HTTPS, API_SERVER))
    yield Edge("postgres", "world", HTTPS)


def needed_by_the_edge(documents: Documents) -> Iterator[Edge]:
    names = {pod.name for pod in pods(documents)}
    edge = "waybill-istio" if "waybill-istio" in names else "edge"
    yield Edge(edge, "gateway", SERVICES["gateway"])
    if "solver" in names:
        yield Edge(edge, "solver", SOLVER)
    if edge in names:  # open to all, and so to those who may leave
        sources = {pod.name for pod in OUTSIDE} | {"postgres"}
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


def test_names_are_asked_for_on_the_node_where_they_are_known(built: Cluster) -> None:
    """In the cluster of the tests, whose DNS is no pod."""
    [rule] = policy(built("local"), "names-on-the-node")["egress"]
    assert rule["to"] == [{"ipBlock": {"cidr": f"{NODE_ADDRESS}/32"}}]


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


def broker_to_any_address(documents: Documents) -> None:
    anywhere = [{"ipBlock": {"cidr": "0.0.0.0/0"}}]
    policy(documents, "rabbitmq")["egress"].append({"to": anywhere, "ports": [{"port": HTTPS}]})


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
    "broker that calls the world": ("prod", surplus, broker_to_any_address),
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
