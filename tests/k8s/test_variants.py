"""What the components do to production: where requests go, and what mesh and edge insist on."""

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from k8s.manifests import (
    IN_THE_MESH,
    WORKLOADS,
    Cluster,
    Documents,
    leads_to,
    matches,
    named,
    of,
    services,
    template,
)
from waybill import project

PORTS = {app.name: app.port for app in project.find().apps}
EDGE = "cluster.local/ns/waybill/sa/waybill-istio"


def gateways_behind(documents: Documents, service: str) -> set[str]:
    deployments = named(documents, "Deployment")
    found = named(documents, "Service")[service]
    return {name for name, deployment in deployments.items() if leads_to(found, deployment)}


def environment(documents: Documents, deployment: str) -> dict[str, Any]:
    """What the app is told in the end."""
    (container,) = template(named(documents, "Deployment")[deployment])["spec"]["containers"]
    told: dict[str, Any] = {}
    for source in container["envFrom"]:
        told |= named(documents, "ConfigMap")[source["configMapRef"]["name"]]["data"]
    return told | {variable["name"]: variable for variable in container["env"]}


def test_production_has_one_gateway(built: Cluster) -> None:
    documents = built("prod")
    assert gateways_behind(documents, "gateway") == {"gateway"}
    assert "gateway-next" not in named(documents, "Deployment")


def test_a_canary_gets_its_share(built: Cluster) -> None:
    documents = built("prod+canary")
    backends = named(documents, "HTTPRoute")["api"]["spec"]["rules"][0]["backendRefs"]
    shares = {backend["name"]: backend["weight"] for backend in backends}
    assert shares == {"gateway": 90, "gateway-next": 10}
    for name in shares:
        assert gateways_behind(documents, name) == {name}


@pytest.mark.parametrize("overlay", ["prod+canary", "prod+blue-green"])
def test_the_next_gateway_is_the_stable_one_with_another_image(
    overlay: str, built: Cluster
) -> None:
    documents = built(overlay)
    told = environment(documents, "gateway")
    assert {"TRUSTED_PROXIES", "CORS_ALLOW_ORIGINS"} <= told.keys()
    itself = {"APP_ID": {"name": "APP_ID", "value": "gateway-next"}}
    assert environment(documents, "gateway-next") == told | itself
    scalers = named(documents, "HorizontalPodAutoscaler")
    bounds = [
        [scalers[name]["spec"][bound] for bound in ("minReplicas", "maxReplicas")]
        for name in ("gateway", "gateway-next")
    ]
    assert bounds[0] == bounds[1]
    stable, following = (
        template(named(documents, "Deployment")[name]) for name in ("gateway", "gateway-next")
    )
    itself = {"dapr.io/app-id": "gateway-next"}
    assert following["metadata"]["annotations"] == stable["metadata"]["annotations"] | itself
    images = [t["spec"]["containers"][0]["image"] for t in (stable, following)]
    assert images[0] != images[1]
    assert images[0].partition(":")[0] == images[1].partition(":")[0]


def test_green_takes_all(built: Cluster) -> None:
    documents = built("prod+blue-green")
    assert gateways_behind(documents, "gateway") == {"gateway-next"}
    assert "gateway" in named(documents, "Deployment")  # to go back to


def test_istio_has_one_sidecar_and_takes_only_calls_of_the_api(built: Cluster) -> None:
    """In the mesh Jobs would not end, and neither Prometheus nor the operators get in."""
    documents = built("prod+istio")
    (namespace,) = of(documents, "Namespace")
    assert "istio-injection" not in namespace["metadata"]["labels"]
    pods = {d["metadata"]["name"]: template(d)["metadata"] for d in of(documents, *WORKLOADS)}
    injected = {name: pod for name, pod in pods.items() if IN_THE_MESH in pod["labels"]}
    assert injected.keys() == {"gateway"}
    assert injected["gateway"]["labels"][IN_THE_MESH] == "true"
    told = injected["gateway"]["annotations"]
    assert told["traffic.sidecar.istio.io/includeInboundPorts"] == str(PORTS["gateway"])
    assert told["traffic.sidecar.istio.io/includeOutboundIPRanges"] == ""


def test_every_rule_of_istio_is_for_the_gateway_alone(built: Cluster) -> None:
    documents = built("prod+istio")
    kinds = ("PeerAuthentication", "RequestAuthentication", "AuthorizationPolicy")
    for rule in of(documents, *kinds):
        selected = {
            workload["metadata"]["name"]
            for workload in of(documents, *WORKLOADS)
            if matches(rule["spec"]["selector"], template(workload)["metadata"]["labels"])
        }
        assert selected == {"gateway"}


def is_allowed(documents: Documents, caller: str, method: str, path: str) -> bool:
    """By the AuthorizationPolicy; a caller in the clear has no name."""
    (policy,) = of(documents, "AuthorizationPolicy")
    for rule in policy["spec"]["rules"]:
        names = [name for one in rule.get("from", []) for name in one["source"]["principals"]]
        for to in rule["to"]:
            paths = "|".join(re.escape(p).replace(r"\*", ".*") for p in to["operation"]["paths"])
            if (
                (not rule.get("from") or caller in names)
                and method in to["operation"].get("methods", [method])
                and re.fullmatch(paths, path)
            ):
                return True
    return False


def test_with_istio_only_the_edge_calls_the_api(built: Cluster) -> None:
    documents = built("prod+istio")
    edge = named(documents, "Gateway")["waybill"]
    assert f"/sa/{edge['metadata']['name']}-{edge['spec']['gatewayClassName']}" in EDGE
    assert is_allowed(documents, EDGE, "POST", "/api/v1/orders")
    for stranger in ("", "cluster.local/ns/waybill/sa/default"):
        assert not is_allowed(documents, stranger, "POST", "/api/v1/orders")
        assert not is_allowed(documents, stranger, "POST", "/metrics")


def annotations(documents: Documents, deployment: str) -> dict[str, str]:
    return template(named(documents, "Deployment")[deployment])["metadata"]["annotations"]


def test_with_istio_nothing_speaks_to_the_gateway_in_the_clear(built: Cluster) -> None:
    """Kubelet neither: its probes go to the agent, which asks the app past the sidecar."""
    documents = built("prod+istio")
    (peers,) = of(documents, "PeerAuthentication")
    assert peers["spec"]["mtls"] == {"mode": "STRICT"}
    for path in ("/api/v1/orders", "/metrics", "/live", "/ready"):
        assert not is_allowed(documents, "", "GET", path)
    told = annotations(documents, "gateway")
    assert told["sidecar.istio.io/rewriteAppHTTPProbers"] == "true"


def read_by_prometheus(documents: Documents, deployment: Any, annotations: Any) -> str:
    """Where, for a pod of the deployment with these annotations."""
    metadata = template(deployment)["metadata"]
    monitors = of(documents, "PodMonitor")
    (monitor,) = [m for m in monitors if matches(m["spec"]["selector"], metadata["labels"])]
    (endpoint,) = [e for e in monitor["spec"]["podMetricsEndpoints"] if e["port"] == "http"]
    labels = {
        "__meta_kubernetes_pod_annotation_" + re.sub(r"\W", "_", key): value
        for key, value in annotations.items()
    }
    port = PORTS[deployment["metadata"]["name"]]
    labels |= {"__address__": f"10.0.0.1:{port}", "__metrics_path__": endpoint["path"]}
    for rule in endpoint.get("relabelings", []):
        source = ";".join(labels.get(label, "") for label in rule["sourceLabels"])
        if found := re.fullmatch(rule["regex"], source):
            replacement = rule.get("replacement", "$1").replace("$", "\\")
            labels[rule["targetLabel"]] = found.expand(replacement)
    return labels["__address__"] + labels["__metrics_path__"]


def test_with_istio_prometheus_reads_the_gateway_by_the_agent(built: Cluster) -> None:
    documents = built("prod+istio")
    for deployment in services(documents):
        name = deployment["metadata"]["name"]
        told = annotations(documents, name)
        app = f"10.0.0.1:{PORTS[name]}/metrics"
        assert read_by_prometheus(documents, deployment, told) == app
        if name == "gateway":
            # The agent notes where the app's are, and the injection puts its own place there.
            assert told["prometheus.istio.io/merge-metrics"] == "true"
            assert told["prometheus.io/scrape"] == "true"
            assert f"10.0.0.1:{told['prometheus.io/port']}{told['prometheus.io/path']}" == app
            injected = told | {
                "prometheus.io/port": "15020",
                "prometheus.io/path": "/stats/prometheus",
            }
            agent = "10.0.0.1:15020/stats/prometheus"
            assert read_by_prometheus(documents, deployment, injected) == agent


def seconds(duration: str) -> float:
    assert duration.endswith("s"), "no other unit is read here"
    return float(duration.removesuffix("s"))


def traffic_policy(documents: Documents) -> Any:
    (rule,) = of(documents, "DestinationRule")
    assert rule["spec"]["host"] == "gateway.waybill.svc.cluster.local"
    return rule["spec"]["trafficPolicy"]


def test_istio_repeats_what_failed_before_it_was_read(built: Cluster) -> None:
    """By the route of the edge: a VirtualService for the mesh is not read there."""
    documents = built("prod+istio")
    (rule,) = named(documents, "HTTPRoute")["api"]["spec"]["rules"]
    retry = rule.get("retry", {"attempts": 0})
    assert retry["attempts"] > 0
    assert not retry.get("codes")  # what a service answers is final
    tries = 1 + retry["attempts"]
    patience = seconds(traffic_policy(documents)["connectionPool"]["tcp"]["connectTimeout"])
    assert tries * patience < seconds(rule["timeouts"]["request"])


def test_istio_lets_go_of_connections_before_the_app_does(built: Cluster) -> None:
    documents = built("prod+istio")
    idle = traffic_policy(documents)["connectionPool"]["http"].get("idleTimeout", "3600s")
    kept = environment(documents, "gateway")["UVICORN_TIMEOUT_KEEP_ALIVE"]
    assert seconds(idle) < int(kept)


def test_istio_leaves_out_gateways_that_cannot_be_reached_not_busy_ones(built: Cluster) -> None:
    outliers = traffic_policy(built("prod+istio"))["outlierDetection"]
    assert outliers["splitExternalLocalOriginErrors"]
    assert outliers["consecutiveLocalOriginFailures"] > 0
    for counted in ("consecutive5xxErrors", "consecutiveGatewayErrors"):
        assert outliers.get(counted, 5) == 0
    assert outliers["maxEjectionPercent"] <= 50


def test_istio_gets_the_keys_of_tokens_in_the_clear(built: Cluster) -> None:
    documents = built("prod+istio")
    (tokens,) = of(documents, "RequestAuthentication")
    (rule,) = tokens["spec"]["jwtRules"]
    assert (rule["issuer"], rule["audiences"]) == ("waybill", ["waybill"])
    keys = urlsplit(str(rule["jwksUri"]))
    assert keys.hostname == "users.waybill.svc.cluster.local"
    service = named(documents, "Service")["users"]
    assert keys.port in {port["port"] for port in service["spec"]["ports"]}
    asked = [d for d in of(documents, "Deployment") if leads_to(service, d)]
    assert [IN_THE_MESH in template(d)["metadata"]["labels"] for d in asked] == [False]


def test_with_istio_the_gateway_believes_its_sidecar_who_called(built: Cluster) -> None:
    """Or all customers came from one address, and shared one rate limit."""
    told = environment(built("prod+istio"), "gateway")["TRUSTED_PROXIES"]
    before = environment(built("prod"), "gateway")["TRUSTED_PROXIES"]
    assert set(json.loads(told)) == {*json.loads(before), "127.0.0.6/32"}


def endpoint(documents: Documents) -> Any:
    return named(documents, "PodMonitor")["services"]["spec"]["podMetricsEndpoints"][0]


def route(documents: Documents) -> Any:
    return named(documents, "HTTPRoute")["api"]["spec"]["rules"][0]


BROKEN: dict[str, tuple[Callable[[Documents], object], Callable[[Cluster], None]]] = {
    "namespace in the mesh": (
        lambda d: of(d, "Namespace")[0]["metadata"]["labels"].update(
            {"istio-injection": "enabled"}
        ),
        test_istio_has_one_sidecar_and_takes_only_calls_of_the_api,
    ),
    "migration in the mesh": (
        lambda d: template(of(d, "Job")[0])["metadata"]["labels"].update({IN_THE_MESH: "true"}),
        test_istio_has_one_sidecar_and_takes_only_calls_of_the_api,
    ),
    "strictness for all": (
        lambda d: of(d, "PeerAuthentication")[0]["spec"].update(selector={}),
        test_every_rule_of_istio_is_for_the_gateway_alone,
    ),
    "plain text": (
        lambda d: of(d, "PeerAuthentication")[0]["spec"]["mtls"].update(mode="PERMISSIVE"),
        test_with_istio_nothing_speaks_to_the_gateway_in_the_clear,
    ),
    "callers without a name": (
        lambda d: of(d, "AuthorizationPolicy")[0]["spec"]["rules"].append(
            {"to": [{"operation": {"paths": ["/metrics"]}}]}
        ),
        test_with_istio_nothing_speaks_to_the_gateway_in_the_clear,
    ),
    "probes in the clear": (
        lambda d: annotations(d, "gateway").update(
            {"sidecar.istio.io/rewriteAppHTTPProbers": "false"}
        ),
        test_with_istio_nothing_speaks_to_the_gateway_in_the_clear,
    ),
    "metrics behind the sidecar": (
        lambda d: endpoint(d).pop("relabelings"),
        test_with_istio_prometheus_reads_the_gateway_by_the_agent,
    ),
    "metrics of nobody": (
        lambda d: annotations(d, "gateway").update({"prometheus.io/port": "9000"}),
        test_with_istio_prometheus_reads_the_gateway_by_the_agent,
    ),
    "metrics of the sidecar alone": (
        lambda d: annotations(d, "gateway").update({"prometheus.istio.io/merge-metrics": "false"}),
        test_with_istio_prometheus_reads_the_gateway_by_the_agent,
    ),
    "no second try": (
        lambda d: route(d).pop("retry"),
        test_istio_repeats_what_failed_before_it_was_read,
    ),
    "second try after an answer": (
        lambda d: route(d)["retry"].update(codes=[503]),
        test_istio_repeats_what_failed_before_it_was_read,
    ),
    "no time for a second try": (
        lambda d: traffic_policy(d)["connectionPool"]["tcp"].update(connectTimeout="15s"),
        test_istio_repeats_what_failed_before_it_was_read,
    ),
    "requests into closing connections": (
        lambda d: traffic_policy(d)["connectionPool"]["http"].pop("idleTimeout"),
        test_istio_lets_go_of_connections_before_the_app_does,
    ),
    "busy gateways left out": (
        lambda d: traffic_policy(d)["outlierDetection"].pop("consecutive5xxErrors"),
        test_istio_leaves_out_gateways_that_cannot_be_reached_not_busy_ones,
    ),
    "anybody without an account of its own": (
        lambda d: of(d, "AuthorizationPolicy")[0]["spec"]["rules"][0]["from"][0]["source"][
            "principals"
        ].append("cluster.local/ns/waybill/sa/default"),
        test_with_istio_only_the_edge_calls_the_api,
    ),
    "keys behind the mesh": (
        lambda d: template(named(d, "Deployment")["users"])["metadata"]["labels"].update(
            {IN_THE_MESH: "true"}
        ),
        test_istio_gets_the_keys_of_tokens_in_the_clear,
    ),
}


@pytest.mark.parametrize("mistake", BROKEN)
def test_mistake_with_istio_is_found(mistake: str, cluster: Cluster) -> None:
    break_it, check = BROKEN[mistake]
    documents = cluster("prod+istio")
    break_it(documents)
    with pytest.raises(AssertionError):
        check(lambda _: documents)


def test_a_restore_reads_the_former_archive_and_writes_another(built: Cluster) -> None:
    """CloudNativePG refuses an archive that is not empty, and the former is needed again."""
    spec = named(built("prod+restored-postgres"), "Cluster")["postgres"]["spec"]
    (former,) = spec["externalClusters"]
    assert spec["bootstrap"]["recovery"]["source"] == former["name"]
    read, written = former["barmanObjectStore"], spec["backup"]["barmanObjectStore"]
    for same in ("destinationPath", "s3Credentials"):
        assert read[same] == written[same]
    assert read["serverName"] == "postgres"  # by default the cluster's name
    assert written["serverName"] != read["serverName"]


def test_kong_has_the_plugins_that_its_route_names(built: Cluster) -> None:
    documents = built("prod+kong")
    route = named(documents, "HTTPRoute")["api"]["metadata"]["annotations"]
    assert set(route["konghq.com/plugins"].split(",")) == named(documents, "KongPlugin").keys()
    service = named(documents, "Service")["gateway"]["metadata"]["annotations"]
    assert service["konghq.com/upstream-policy"] in named(documents, "KongUpstreamPolicy")
    assert named(documents, "Gateway")["waybill"]["spec"]["gatewayClassName"] == "kong"
