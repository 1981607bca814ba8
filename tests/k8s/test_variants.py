"""What the components do to production: where requests go, and what mesh and edge insist on."""

from collections.abc import Callable
from typing import Any, TypeAlias

Documents: TypeAlias = list[Any]
Cluster: TypeAlias = Callable[[str], Documents]

TRACK = "waybill.example/track"


def named(documents: Documents, kind: str) -> dict[str, Any]:
    return {d["metadata"]["name"]: d for d in documents if d["kind"] == kind}


def selects(service: Any, deployment: Any) -> bool:
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    return service["spec"]["selector"].items() <= labels.items()


def gateways_behind(documents: Documents, service: str) -> set[str]:
    deployments = named(documents, "Deployment")
    found = named(documents, "Service")[service]
    return {name for name, deployment in deployments.items() if selects(found, deployment)}


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


def test_the_next_gateway_is_the_stable_one_with_another_image(built: Cluster) -> None:
    deployments = named(built("prod+canary"), "Deployment")
    stable, following = (
        deployments[name]["spec"]["template"] for name in ("gateway", "gateway-next")
    )
    assert following["metadata"]["annotations"] == stable["metadata"]["annotations"]
    images = [t["spec"]["containers"][0]["image"] for t in (stable, following)]
    assert images[0] != images[1]
    assert images[0].partition(":")[0] == images[1].partition(":")[0]


def test_green_takes_all(built: Cluster) -> None:
    documents = built("prod+blue-green")
    assert gateways_behind(documents, "gateway") == {"gateway-next"}
    assert "gateway" in named(documents, "Deployment")  # to go back to


def test_istio_lets_nothing_speak_in_the_clear(built: Cluster) -> None:
    documents = built("prod+istio")
    (strict,) = named(documents, "PeerAuthentication").values()
    assert strict["spec"] == {"mtls": {"mode": "STRICT"}}
    assert named(documents, "Gateway")["waybill"]["spec"]["gatewayClassName"] == "istio"
    (tokens,) = named(documents, "RequestAuthentication").values()
    (rule,) = tokens["spec"]["jwtRules"]
    assert (rule["issuer"], rule["audiences"]) == ("waybill", ["waybill"])


def test_istio_leaves_the_sidecars_of_dapr_alone(built: Cluster) -> None:
    for deployment in named(built("prod+istio"), "Deployment").values():
        annotations = deployment["spec"]["template"]["metadata"]["annotations"]
        assert annotations["traffic.sidecar.istio.io/excludeInboundPorts"] == "50002"
        excluded = annotations["traffic.sidecar.istio.io/excludeOutboundPorts"].split(",")
        assert {"50001", "50002", "50005", "50006", "6500"} <= set(excluded)


def test_kong_has_the_plugins_that_its_route_names(built: Cluster) -> None:
    documents = built("prod+kong")
    route = named(documents, "HTTPRoute")["api"]["metadata"]["annotations"]
    assert set(route["konghq.com/plugins"].split(",")) == named(documents, "KongPlugin").keys()
    service = named(documents, "Service")["gateway"]["metadata"]["annotations"]
    assert service["konghq.com/upstream-policy"] in named(documents, "KongUpstreamPolicy")
    assert named(documents, "Gateway")["waybill"]["spec"]["gatewayClassName"] == "kong"
