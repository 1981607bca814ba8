"""Dapr's chart is told to keep every pod without its sidecar from starting, and no other pod."""

from functools import reduce
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from k8s.manifests import OVERLAYS, WORKLOADS, Cluster, matches, of, template
from waybill import project
from waybill.cluster.deploy import Target
from waybill.cluster.kubectl import Kubectl


def merged(values: Any, more: Any) -> Any:
    """As helm does with one file after another."""
    if not isinstance(values, dict) or not isinstance(more, dict):
        return more
    values, more = cast("dict[str, Any]", values), cast("dict[str, Any]", more)
    return values | {key: merged(values.get(key), value) for key, value in more.items()}


def values_of(overlay: str) -> Any:
    kubectl = Kubectl("kubectl", [])
    folder = Path("k8s", "overlays", overlay)
    target = Target(project.find(), kubectl, helm=[], chart=[], settings=[], overlay=folder)
    return reduce(merged, (yaml.safe_load(file.read_text()) for file in target.values))


@pytest.fixture
def values() -> Any:
    return values_of("prod")


def injected(values: Any, namespace: str, labels: dict[str, str]) -> bool:
    injector = values["dapr_sidecar_injector"]
    assert injector["webhookFailurePolicy"] == "Fail"
    return matches(
        injector["namespaceSelector"], {"kubernetes.io/metadata.name": namespace}
    ) and matches(injector["objectSelector"], labels)


@pytest.mark.parametrize("overlay", ["dev", "local", "prod", "prod+canary"])
def test_the_injector_is_asked_for_pods_with_a_sidecar_only(
    overlay: str, values: Any, built: Cluster
) -> None:
    for workload in of(built(overlay), *WORKLOADS):
        pod = template(workload)["metadata"]
        has_sidecar = pod.get("annotations", {}).get("dapr.io/enabled") == "true"
        assert injected(values, "waybill", pod["labels"]) is has_sidecar


@pytest.mark.parametrize("namespace", ["dapr-system", "kube-system", "cnpg-system", "monitoring"])
def test_pods_elsewhere_start_without_it(namespace: str, values: Any) -> None:
    assert not injected(values, namespace, {"app": "dapr-sidecar-injector"})


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_all_speak_mtls_and_production_has_several_of_each(overlay: str) -> None:
    values = values_of(overlay)
    assert values["global"]["mtls"]["enabled"] is True
    is_large = overlay == "prod"
    assert values["global"]["ha"]["enabled"] is is_large
    assert values["dapr_scheduler"]["cluster"]["inMemoryStorage"] is not is_large


def test_sidecars_fit_into_a_restricted_namespace(values: Any, built: Cluster) -> None:
    (namespace,) = [d for d in built("prod") if d["kind"] == "Namespace"]
    labels = namespace["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    injector = values["dapr_sidecar_injector"]
    assert injector["sidecarDropALLCapabilities"] is True
    assert injector["sidecarRunAsNonRoot"] is True
    assert injector["sidecarReadOnlyRootFilesystem"] is True
