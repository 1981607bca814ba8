"""Writes `schemas/`: what an API server with our operators accepts of each kind, made strict.

    python tests/k8s/generate_schemas.py

The sources are published Go modules, of which nothing is built. Kubernetes' own kinds share
`_definitions.json`; a kind of ours is named as kubeconform asks for it. `experimental/` has the
kinds that a project's experimental channel says more of.
"""

import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias, cast

import yaml

Schema: TypeAlias = dict[str, Any]

SCHEMAS = Path(__file__).parent / "schemas"
RUNTIME = Path(__file__).parents[2] / "packages/waybill/src/waybill/runtime/daprd"
KUBERNETES = "k8s.io/kubernetes@v1.33.13"
DAPR = "github.com/dapr/dapr"  # as `waybill` builds it
GATEWAY_API = "sigs.k8s.io/gateway-api@v1.6.3"
CORE_KINDS = {
    "ConfigMap",
    "CronJob",
    "Deployment",
    "HorizontalPodAutoscaler",
    "Job",
    "Namespace",
    "NetworkPolicy",
    "PersistentVolumeClaim",
    "PodDisruptionBudget",
    "Secret",
    "Service",
    "ServiceAccount",
    "StatefulSet",
}
CUSTOM_KINDS: Mapping[str, tuple[str, set[str]]] = {
    "github.com/argoproj/argo-cd/v3@v3.5.7": (
        "manifests/crds/application-crd.yaml",
        {"Application"},
    ),
    "github.com/cert-manager/cert-manager@v1.21.2": (
        "deploy/crds/*.yaml",
        {"Certificate", "ClusterIssuer"},
    ),
    "github.com/cloudnative-pg/cloudnative-pg@v1.27.0": (
        "config/crd/bases/*.yaml",
        {"Cluster", "ScheduledBackup"},
    ),
    "github.com/envoyproxy/gateway@v1.9.1": (
        "charts/gateway-helm/charts/crds/crds/generated/*_envoyproxies.yaml",
        {"EnvoyProxy"},
    ),
    "github.com/external-secrets/external-secrets@v1.3.2": (
        "config/crds/bases/external-secrets.io_externalsecrets.yaml",
        {"ExternalSecret"},
    ),
    "github.com/kedacore/keda/v2@v2.21.0": (
        "config/crd/bases/keda.sh_*.yaml",
        {"ScaledObject", "TriggerAuthentication"},
    ),
    "github.com/kong/kubernetes-configuration@v1.4.0": (
        "config/crd/**/configuration.konghq.com_*.yaml",
        {"KongPlugin", "KongUpstreamPolicy"},
    ),
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": (
        "example/prometheus-operator-crd/*.yaml",
        {"PodMonitor", "PrometheusRule"},
    ),
    "github.com/rabbitmq/cluster-operator/v2@v2.16.0": (
        "config/crd/bases/*.yaml",
        {"RabbitmqCluster"},
    ),
    "istio.io/api@v1.31.1": (
        "kubernetes/customresourcedefinitions.gen.yaml",
        {
            "AuthorizationPolicy",
            "DestinationRule",
            "PeerAuthentication",
            "RequestAuthentication",
        },
    ),
    GATEWAY_API: (
        "config/crd/standard/*.yaml",
        {"Gateway", "HTTPRoute"},
    ),
}
EXPERIMENTAL_KINDS: Mapping[str, tuple[str, set[str]]] = {
    GATEWAY_API: ("config/crd/experimental/*_httproutes.yaml", {"HTTPRoute"}),
}
DAPR_KINDS = {"Component", "Configuration", "HTTPEndpoint", "Resiliency", "Subscription"}
NUMBER_OR_TEXT: Schema = {"type": ["string", "integer", "number"]}
KEPT = {
    "type",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "required",
}
SUBSCHEMAS = ("items", "additionalProperties", "not")
LISTS = ("anyOf", "allOf", "oneOf")


class Loader(yaml.CSafeLoader):
    """Reads a plain `=`, which one definition has among its values, as text."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda _, node: node.value)


def module(path: str) -> Path:
    """The directory of a module's source, downloaded if need be."""
    command = ["go", "mod", "download", "-json", path]
    found = subprocess.run(command, check=True, capture_output=True, text=True, cwd="/")
    return Path(json.loads(found.stdout)["Dir"])


def dapr() -> Path:
    command = ["go", "list", "-m", "-f", "{{.Dir}}", DAPR]
    found = subprocess.run(command, check=True, capture_output=True, text=True, cwd=RUNTIME)
    return Path(found.stdout.strip())


def strict(node: Any) -> Any:
    """Without prose, and closed wherever the API server prunes what it does not know."""
    if not isinstance(node, dict):
        return node
    schema = cast("Schema", node)
    if "$ref" in schema:
        return {"$ref": f"_definitions.json{schema['$ref']}"}
    if schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string":
        return NUMBER_OR_TEXT
    kept = {key: schema[key] for key in KEPT if key in schema}
    kept |= {key: strict(schema[key]) for key in SUBSCHEMAS if key in schema}
    kept |= {key: [strict(one) for one in schema[key]] for key in LISTS if key in schema}
    if schema.get("nullable") and isinstance(kept.get("type"), str):
        kept["type"] = [kept["type"], "null"]
    if "properties" in schema:
        kept["properties"] = {name: strict(one) for name, one in schema["properties"].items()}
        # Inside anyOf and its like, properties say more of what is declared around them.
        is_whole = schema.get("type") == "object"
        if is_whole and not schema.get("x-kubernetes-preserve-unknown-fields"):
            kept.setdefault("additionalProperties", False)
    return kept


def core_schemas() -> Iterator[tuple[str, Schema]]:
    swagger = json.loads((module(KUBERNETES) / "api/openapi-spec/swagger.json").read_text())
    definitions: dict[str, Schema] = swagger["definitions"]
    wanted: set[str] = set()
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            if kind["kind"] in CORE_KINDS and _is_stable(kind["version"]):
                wanted |= {name} | _references(definitions, name)
                yield (
                    file_name(kind["kind"], kind["group"], kind["version"]),
                    {"$ref": f"_definitions.json#/definitions/{name}"},
                )
    yield (
        "_definitions.json",
        {"definitions": {name: _definition(definitions[name]) for name in sorted(wanted)}},
    )


def _definition(definition: Schema) -> Schema:
    """`Quantity` is text by its definition, and a number in many a manifest."""
    if definition.get("type") == "string" and "Quantity" in definition.get("description", ""):
        return NUMBER_OR_TEXT
    return strict(definition)


def _is_stable(version: str) -> bool:
    return "alpha" not in version and "beta" not in version


def _references(definitions: Mapping[str, Schema], name: str) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        text = json.dumps(definitions[waiting.pop()])
        names = {part.partition('"')[0] for part in text.split('"#/definitions/')[1:]}
        waiting.extend(names - found)
        found |= names
    return found


def custom_schemas(definitions: Iterator[Schema], kinds: set[str]) -> Iterator[tuple[str, Schema]]:
    for definition in definitions:
        spec = definition["spec"]
        if spec["names"]["kind"] not in kinds:
            continue
        for version in spec["versions"]:
            if version["served"]:
                schema = strict(version["schema"]["openAPIV3Schema"])
                # The API server knows these itself, and checks the last as any object's.
                schema["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": METADATA}
                schema["properties"].pop("status", None)
                name = file_name(spec["names"]["kind"], spec["group"], version["name"])
                yield name, schema


METADATA: Schema = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "namespace": {"type": "string"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
        "finalizers": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name"],
    "additionalProperties": False,
}


def file_name(kind: str, group: str, version: str) -> str:
    parts = (kind.lower(), group.partition(".")[0], version)
    return "-".join(part for part in parts if part) + ".json"


def documents(folder: Path, pattern: str) -> Iterator[Schema]:
    for path in sorted(folder.glob(pattern)):
        read = yaml.load_all(path.read_text(), Loader)
        yield from (d for d in read if d and d["kind"] == "CustomResourceDefinition")


def published(sources: Mapping[str, tuple[str, set[str]]]) -> Iterator[tuple[str, Schema]]:
    for path, (pattern, kinds) in sources.items():
        yield from custom_schemas(documents(module(path), pattern), kinds)


def write(folder: Path, schemas: Iterable[tuple[str, Schema]]) -> None:
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.json"):
        old.unlink()
    for name, schema in schemas:
        (folder / name).write_text(json.dumps(schema, separators=(",", ":"), sort_keys=True) + "\n")


def main() -> None:
    ours = custom_schemas(documents(dapr(), "charts/dapr/crds/*.yaml"), DAPR_KINDS)
    write(SCHEMAS, chain(core_schemas(), ours, published(CUSTOM_KINDS)))
    write(SCHEMAS / "experimental", published(EXPERIMENTAL_KINDS))


if __name__ == "__main__":
    main()
