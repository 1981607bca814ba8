"""Dapr's chart is told to keep every pod without its sidecar from starting, and no other pod."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

Documents: TypeAlias = list[Any]
Cluster: TypeAlias = Callable[[str], Documents]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def values() -> Any:
    return yaml.safe_load((ROOT / "k8s" / "dapr-values.yaml").read_text())


def holds(selector: Any, labels: dict[str, str]) -> bool:
    for expression in selector["matchExpressions"]:
        among = labels.get(expression["key"]) in expression["values"]
        if among != (expression["operator"] == "In"):
            return False
    return True


def injected(values: Any, namespace: str, labels: dict[str, str]) -> bool:
    injector = values["dapr_sidecar_injector"]
    assert injector["webhookFailurePolicy"] == "Fail"
    return holds(
        injector["namespaceSelector"], {"kubernetes.io/metadata.name": namespace}
    ) and holds(injector["objectSelector"], labels)


def templates(documents: Documents) -> Iterator[Any]:
    for document in documents:
        if document["kind"] in {"Deployment", "StatefulSet", "Job"}:
            yield document["spec"]["template"]["metadata"]


@pytest.mark.parametrize("overlay", ["dev", "local", "prod", "prod+canary"])
def test_the_injector_is_asked_for_pods_with_a_sidecar_only(
    overlay: str, values: Any, built: Cluster
) -> None:
    for template in templates(built(overlay)):
        has_sidecar = template.get("annotations", {}).get("dapr.io/enabled") == "true"
        assert injected(values, "waybill", template["labels"]) is has_sidecar


@pytest.mark.parametrize("namespace", ["dapr-system", "kube-system", "cnpg-system", "monitoring"])
def test_pods_elsewhere_start_without_it(namespace: str, values: Any) -> None:
    assert not injected(values, namespace, {"app": "dapr-sidecar-injector"})


def test_there_are_several_of_each_and_all_speak_mtls(values: Any) -> None:
    assert values["global"]["ha"]["enabled"] is True
    assert values["global"]["mtls"]["enabled"] is True


def test_sidecars_fit_into_a_restricted_namespace(values: Any, built: Cluster) -> None:
    (namespace,) = [d for d in built("prod") if d["kind"] == "Namespace"]
    labels = namespace["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    injector = values["dapr_sidecar_injector"]
    assert injector["sidecarDropALLCapabilities"] is True
    assert injector["sidecarRunAsNonRoot"] is True
    assert injector["sidecarReadOnlyRootFilesystem"] is True
