"""Writes `schemas.json`: what Dapr documents of each kind of YAML that we use, made strict.

    python tests/config/generate_schemas.py

The sources are the modules that `waybill` builds the runtime from, in Go's module cache: the
`metadata.yaml` of each component, the definitions of Dapr's own resources, the CLI's run file.
"""

import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias, cast

import yaml

Schema: TypeAlias = dict[str, Any]

HERE = Path(__file__).parent
RUNTIME = HERE.parents[1] / "packages/waybill/src/waybill/runtime"
COMPONENTS = {
    "pubsub.rabbitmq": "pubsub/rabbitmq",
    "state.redis": "state/redis",
    "configuration.redis": "configuration/redis",
    "secretstores.local.file": "secretstores/local/file",
    "bindings.smtp": "bindings/smtp",
}
KINDS = {
    "Component": "components",
    "HTTPEndpoint": "httpendpoints",
    "Configuration": "configuration",
    "Resiliency": "resiliency",
    "Subscription": "subscription",
}
SECRET: Schema = {"type": "object", "required": ["secretKeyRef"]}
TYPES: dict[str, Schema] = {
    "string": {"type": "string"},
    "bool": {"enum": ["true", "false"]},
    "number": {"type": "string", "pattern": r"^-?\d+$"},
    "duration": {"type": "string", "pattern": r"^-?\d+(ms|s|m|h)?$"},
}
GO_TYPES: dict[str, Schema] = {
    "string": {"type": "string"},
    "*string": {"type": "string"},
    "int": {"type": "integer"},
    "bool": {"type": "boolean"},
    "[]string": {"type": "array", "items": {"type": "string"}},
    "map[string]string": {"type": "object", "additionalProperties": {"type": "string"}},
    "LogDestType": {"enum": ["console", "file", "fileAndConsole"]},
}

# Where the code reads something else than its metadata.yaml says.
READ_BY_DAPRD: dict[str, Schema] = {
    "pubsub": {"publishingScopes": TYPES["string"], "subscriptionScopes": TYPES["string"]},
    "state": {"keyPrefix": TYPES["string"], "actorStateStore": TYPES["bool"]},
    "bindings": {"direction": {"enum": ["input", "output", "input, output"]}},
}
READ_BY_COMPONENT: dict[str, Schema] = {
    "pubsub.rabbitmq": {"concurrencyMode": {"enum": ["parallel", "single"]}},
}
NOT_READ = {"pubsub.rabbitmq": {"concurrency"}}
GIVEN_WITH_EACH_REQUEST = {"bindings.smtp": {"emailTo", "subject"}}
FOR_KUBERNETES_ONLY = {"controlPlaneTrustDomain", "sentryAddress"}


def module(name: str, pinned_in: str) -> Path:
    command = ["go", "list", "-m", "-f", "{{.Dir}}", name]
    found = subprocess.run(
        command, cwd=RUNTIME / pinned_in, check=True, capture_output=True, text=True
    )
    return Path(found.stdout.strip())


def component(kind: str, documented: Schema) -> Schema:
    """A schema of a component's metadata, read as a mapping from name to value."""
    profiles: list[list[Schema]] = [
        profile["metadata"] for profile in documented.get("authenticationProfiles", [])
    ]
    own: list[Schema] = documented.get("metadata", [])
    fields = {field["name"]: field for field in chain(own, *profiles)}
    properties = {
        name: value_of(field)
        for name, field in fields.items()
        if name not in NOT_READ.get(kind, ())
    }
    family = kind.partition(".")[0]
    properties |= READ_BY_DAPRD.get(family, {}) | READ_BY_COMPONENT.get(kind, {})
    later = GIVEN_WITH_EACH_REQUEST.get(kind, set[str]())
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(required(own) - later),
        "additionalProperties": False,
        "anyOf": [{"required": sorted(required(profile))} for profile in profiles] or [{}],
    }


def required(fields: Iterable[Schema]) -> set[str]:
    return {field["name"] for field in fields if field.get("required")}


def value_of(field: Schema) -> Schema:
    if field.get("sensitive"):
        return SECRET
    allowed = field.get("allowedValues")
    plain = {"enum": allowed} if allowed else TYPES[field.get("type", "string")]
    return {"anyOf": [plain, SECRET]}


def resource(definition: Schema) -> Schema:
    """The newest version of a custom resource, with nothing unknown in it."""
    schema = strict(definition["spec"]["versions"][-1]["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {
        "type": "object",
        "properties": {"name": {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}},
        "required": ["name"],
        "additionalProperties": False,
    }
    return schema


def strict(node: Any) -> Any:
    """Without prose and defaults, and closed wherever Kubernetes does not keep unknown fields."""
    if not isinstance(node, dict):
        return node
    schema = cast("Schema", node)
    kept = {key: schema[key] for key in ("type", "enum", "items") if key in schema}
    if "items" in kept:
        kept["items"] = strict(kept["items"])
    if "properties" in schema:
        kept["properties"] = {name: strict(sub) for name, sub in schema["properties"].items()}
        kept["required"] = [n for n in schema.get("required", []) if n not in FOR_KUBERNETES_ONLY]
        kept["additionalProperties"] = False
    elif "additionalProperties" in schema:
        kept["additionalProperties"] = strict(schema["additionalProperties"])
    return kept


def run_file(cli: Path) -> Schema:
    """The keys of the run file: the CLI itself ignores those that it does not know."""
    run = (cli / "pkg/standalone/run.go").read_text()
    layout = (cli / "pkg/runfileconfig/run_file_config.go").read_text()
    shared = dict(fields_of("SharedRunConfig", run))
    app = shared | dict(fields_of("RunConfig", run)) | dict(fields_of("App", layout))
    return closed(
        {
            "version": {"const": 1},
            "name": GO_TYPES["string"],
            "common": closed(shared),
            "apps": {"type": "array", "items": closed(app, "appID", "appDirPath", "command")},
        },
        "version",
        "apps",
    )


def fields_of(struct: str, source: str) -> Iterator[tuple[str, Schema]]:
    body = re.search(rf"^type {struct} struct \{{(.*?)^\}}", source, re.DOTALL | re.MULTILINE)
    assert body, f"the CLI has no {struct} any more"
    for go_type, key in re.findall(r'^\s+\w+\s+(\S+)\s+`.*yaml:"(\w+)', body[1], re.MULTILINE):
        yield key, GO_TYPES[go_type]


def closed(properties: Schema, *needed: str) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(needed),
        "additionalProperties": False,
    }


def main() -> None:
    contrib = module("github.com/dapr/components-contrib", "daprd")
    definitions = module("github.com/dapr/dapr", "daprd") / "charts/dapr/crds"
    schemas = {
        "components": {
            kind: component(kind, yaml.safe_load((contrib / path / "metadata.yaml").read_text()))
            for kind, path in COMPONENTS.items()
        },
        "kinds": {
            kind: resource(yaml.safe_load((definitions / f"{name}.yaml").read_text()))
            for kind, name in KINDS.items()
        },
        "run file": run_file(module("github.com/dapr/cli", "dapr")),
    }
    (HERE / "schemas.json").write_text(json.dumps(schemas, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
