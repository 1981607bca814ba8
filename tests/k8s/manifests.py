"""What is in a built overlay, and which pods a selector means."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias, cast

from waybill import project

Documents: TypeAlias = list[Any]
Cluster: TypeAlias = Callable[[str], Documents]
Rule: TypeAlias = Callable[[Documents], Iterator[str]]

GUIDE = Path(__file__).parents[2] / "docs" / "kubernetes.md"

OVERLAYS = ("dev", "local", "prod")
ON_TOP_OF_PROD = ("canary", "blue-green", "istio", "kong", "restored-postgres")
PLATFORMS = (*OVERLAYS, *(f"prod+{component}" for component in ON_TOP_OF_PROD))
RESTARTED = {"Deployment", "StatefulSet"}
WORKLOADS = RESTARTED | {"Job"}
IN_THE_MESH = "sidecar.istio.io/inject"
"""The label of a pod that gets a sidecar of Istio's."""


def of(documents: Documents, *kinds: str) -> Documents:
    return [document for document in documents if document["kind"] in kinds]


def named(documents: Documents, kind: str) -> dict[str, Any]:
    return {document["metadata"]["name"]: document for document in of(documents, kind)}


def name(document: Any) -> str:
    return f"{document['kind']}/{document['metadata']['name']}"


def drop(documents: Documents, kind: str, called: str) -> None:
    documents[:] = [document for document in documents if name(document) != f"{kind}/{called}"]


def fields(node: Any) -> Iterator[tuple[str, Any]]:
    """Every field below, at whatever depth, with its value."""
    if isinstance(node, list):
        for one in cast("Documents", node):
            yield from fields(one)
    if isinstance(node, dict):
        for field, value in cast("dict[str, Any]", node).items():
            yield field, value
            yield from fields(value)


def template(workload: Any) -> Any:
    return workload["spec"]["template"]


def labels_of(workload: Any) -> Mapping[str, str]:
    """Its pods'. Those of an operator's bear the name of what they were made for."""
    if workload["kind"] == "RabbitmqCluster":
        return {"app.kubernetes.io/name": workload["metadata"]["name"]}
    return template(workload)["metadata"]["labels"]


def services(documents: Documents) -> Documents:
    component = {"matchLabels": {"app.kubernetes.io/component": "service"}}
    return [d for d in of(documents, "Deployment") if matches(component, d["metadata"]["labels"])]


def matches(selector: Any, labels: Mapping[str, str]) -> bool:
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] in {"In", "NotIn"}, "no other is evaluated here"
        is_among = labels.get(expression["key"]) in expression["values"]
        if is_among != (expression["operator"] == "In"):
            return False
    return True


def leads_to(service: Any, workload: Any) -> bool:
    return matches({"matchLabels": service["spec"]["selector"]}, labels_of(workload))


def secret_keys() -> dict[str, set[str]]:
    """What the guide tells the keepers of the secret manager: the keys of each Secret."""
    databases = project.find().databases
    keys: dict[str, set[str]] = {}
    table = GUIDE.read_text().partition("### Secrets\n")[2].partition("\n## ")[0]
    for names, described, _ in re.findall(r"^\| (`.*?) \| (.*?) \| (.*) \|$", table, re.MULTILINE):
        for pattern in re.findall(r"`([^`]+)`", names):
            called = {pattern.replace("<service>", database) for database in databases}
            plain = re.sub(r"\([^)]*\)", "", described)
            keys |= {secret: set(re.findall(r"`([\w.-]+)`", plain)) for secret in called}
    return keys
