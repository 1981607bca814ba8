"""An API server with our operators takes every manifest as it is, and refuses what is misspelt."""

import json
import subprocess
from collections.abc import Callable, Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from k8s.generate_schemas import GATEWAY_API
from k8s.manifests import PLATFORMS, Cluster, Documents

ALL = (*PLATFORMS, "argocd")
SCHEMAS = Path(__file__).parent / "schemas"
GUIDE = Path(__file__).parents[2] / "docs" / "service-mesh.md"
CHANNELS = {"prod+istio": (SCHEMAS / "experimental", SCHEMAS)}
"""Where to look for a kind, for those that ask for more than what is standard."""


def refused(
    kubeconform: Path, manifests: str, channel: Iterable[Path] = (SCHEMAS,)
) -> dict[str, str]:
    """Why, by kind and name."""
    file = "{{.ResourceKind}}{{.KindSuffix}}.json"
    locations = [f"-schema-location={folder / file}" for folder in channel]
    command = [str(kubeconform), "-strict", "-output=json", *locations, "-"]
    checked = subprocess.run(
        command, input=manifests, capture_output=True, text=True, timeout=60, check=False
    )
    found = json.loads(checked.stdout)["resources"]
    return {f"{one['kind']}/{one['name']}": one["msg"] for one in found}


@pytest.mark.parametrize("overlay", ALL)
def test_every_manifest_is_valid(
    overlay: str, manifests: dict[str, str], kubeconform: Path
) -> None:
    assert refused(kubeconform, manifests[overlay], CHANNELS.get(overlay, (SCHEMAS,))) == {}


def test_only_the_retries_of_istio_need_the_experimental_channel(
    manifests: dict[str, str], kubeconform: Path
) -> None:
    reasons = refused(kubeconform, manifests["prod+istio"])
    assert reasons.keys() == {"HTTPRoute/api"}
    assert "'retry'" in reasons["HTTPRoute/api"]
    version = GATEWAY_API.partition("@")[2]
    assert f"/{version}/experimental-install.yaml" in GUIDE.read_text()


def one(documents: Documents, kind: str) -> Any:
    return deepcopy(next(document for document in documents if document["kind"] == kind))


KINDS = {
    "local": (
        "Namespace ConfigMap Secret Service ServiceAccount Deployment StatefulSet Job "
        "NetworkPolicy PodDisruptionBudget HorizontalPodAutoscaler Component Configuration "
        "HTTPEndpoint Resiliency Subscription"
    ),
    "prod": (
        "Cluster ScheduledBackup RabbitmqCluster ExternalSecret ScaledObject TriggerAuthentication "
        "Certificate ClusterIssuer Gateway EnvoyProxy HTTPRoute PodMonitor PrometheusRule"
    ),
    "prod+istio": "PeerAuthentication DestinationRule RequestAuthentication AuthorizationPolicy",
    "prod+kong": "KongPlugin KongUpstreamPolicy",
    "argocd": "Application",
}
CASES = [(overlay, kind) for overlay, kinds in KINDS.items() for kind in kinds.split()]


@pytest.mark.parametrize("overlay", KINDS)
def test_every_kind_has_a_broken_one(overlay: str, built: Cluster) -> None:
    covered = {kind for _, kind in CASES}
    assert {document["kind"] for document in built(overlay)} <= covered


def test_a_broken_manifest_of_each_kind_is_refused(built: Cluster, kubeconform: Path) -> None:
    broken: Documents = []
    for overlay, kind in CASES:
        document = one(built(overlay), kind)
        document["metadata"] |= {"name": f"broken-{len(broken)}"}
        body = next((key for key in ("spec", "data", "stringData") if key in document), None)
        if kind in {"ConfigMap", "Secret"}:
            document["dta"] = document.pop("data")
        elif body == "spec":
            document["spec"]["misspelt"] = True
        else:
            document["misspelt"] = True
        broken.append(document)
    reasons = refused(kubeconform, yaml.safe_dump_all(broken))
    assert reasons.keys() == {f"{kind}/broken-{n}" for n, (_, kind) in enumerate(CASES)}


DEEPER: dict[str, tuple[str, str, Callable[[Any], object]]] = {
    "text for a number": (
        "local",
        "Deployment",
        lambda d: d["spec"]["template"]["spec"].update(terminationGracePeriodSeconds="60"),
    ),
    "a route that is none": (
        "local",
        "Subscription",
        lambda d: d["spec"].update(rotues=d["spec"].pop("routes")),
    ),
    "a component without metadata": ("local", "Component", lambda d: d["spec"].pop("metadata")),
    "a policy without a verb": (
        "local",
        "Configuration",
        lambda d: d["spec"]["accessControl"]["policies"][0]["operations"][0].pop("action"),
    ),
    "a trigger without a type": (
        "prod",
        "ScaledObject",
        lambda d: d["spec"]["triggers"][0].pop("type"),
    ),
    "an unknown mode of mTLS": (
        "prod+istio",
        "PeerAuthentication",
        lambda d: d["spec"]["mtls"].update(mode="STRICTLY"),
    ),
    "retries in the words of another mesh": (
        "prod+istio",
        "HTTPRoute",
        lambda d: d["spec"]["rules"][0].update(retry={"retryOn": "connect-failure"}),
    ),
}


@pytest.mark.parametrize("mistake", DEEPER)
def test_mistake_inside_is_refused(mistake: str, built: Cluster, kubeconform: Path) -> None:
    overlay, kind, break_it = DEEPER[mistake]
    document = one(built(overlay), kind)
    break_it(document)
    assert refused(kubeconform, yaml.safe_dump(document), CHANNELS.get(overlay, (SCHEMAS,)))
