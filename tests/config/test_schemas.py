"""No key is misspelt, no value of the wrong kind: Dapr ignores both, or mentions them in a log."""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
from jsonschema import Draft202012Validator

Files: TypeAlias = dict[str, list[Any]]
Schemas: TypeAlias = dict[str, Any]


def invalid(files: Files, schemas: Schemas) -> list[str]:
    """What is wrong with any document, each with its place."""
    return [
        f"{path}: {problem}"
        for path, documents in files.items()
        for document in documents
        for problem in problems_of(path, document, schemas)
    ]


def problems_of(path: str, document: Any, schemas: Schemas) -> Iterator[str]:
    if path == "run.yaml":
        yield from violations(document, schemas["run file"])
        return
    kind = document.get("kind")
    if kind not in schemas["kinds"]:
        yield f"unknown kind {kind}"
        return
    yield from violations(document, schemas["kinds"][kind])
    if kind == "Component":
        yield from problems_of_component(document["spec"], schemas["components"])


def problems_of_component(spec: Any, known: Schemas) -> Iterator[str]:
    if spec["type"] not in known:
        yield f"{spec['type']} is not in the table: generate_schemas.py adds it"
        return
    names = [item["name"] for item in spec["metadata"]]
    yield from (f"{name} is given twice" for name in set(names) if names.count(name) > 1)
    given = {item["name"]: item.get("value", item) for item in spec["metadata"]}
    yield from violations(given, known[spec["type"]])


def violations(document: Any, schema: Schemas) -> Iterator[str]:
    validator: Any = Draft202012Validator(schema)
    for error in validator.iter_errors(document):
        yield f"{error.json_path}: {error.message}"


def test_every_document_is_valid(files: Files, schemas: Schemas) -> None:
    assert invalid(files, schemas) == []


def metadata(files: Files, component: str) -> list[Any]:
    return files[f"components/{component}.yaml"][0]["spec"]["metadata"]


BROKEN: dict[str, Callable[[Files], object]] = {
    "misspelt metadata": lambda f: metadata(f, "pubsub").append(
        {"name": "deleteWhenUnused", "value": "false"}
    ),
    "documented metadata that nothing reads": lambda f: metadata(f, "pubsub").append(
        {"name": "concurrency", "value": "parallel"}
    ),
    "metadata given twice": lambda f: metadata(f, "pubsub").append(
        {"name": "durable", "value": "true"}
    ),
    "missing metadata": lambda f: metadata(f, "email").pop(1),
    "flag that is neither true nor false": lambda f: metadata(f, "secretstore")[1].update(
        value="yes"
    ),
    "password in plain text": lambda f: metadata(f, "statestore").append(
        {"name": "sentinelPassword", "value": "secret"}
    ),
    "component without a schema": lambda f: f["components/pubsub.yaml"][0]["spec"].update(
        type="pubsub.rabitmq"
    ),
    "unknown kind": lambda f: f["components/pubsub.yaml"][0].update(kind="Componet"),
    "misspelt field of a subscription": lambda f: f["dapr/subscriptions/orders.yaml"][0][
        "spec"
    ].update(deadletterTopic="orders.dead-letters"),
    "misspelt field of a policy": lambda f: f["dapr/resiliency.yaml"][0]["spec"]["policies"][
        "retries"
    ]["patient"].update(maxElapsedTime="2h"),
    "misspelt field of the configuration": lambda f: f["dapr/config.yaml"][0]["spec"].update(
        acessControl={}
    ),
    "misspelt field of the endpoint": lambda f: f["components/payment-provider.yaml"][0][
        "spec"
    ].update(baseURL="http://127.0.0.1"),
    "misspelt key of the run file": lambda f: f["run.yaml"][0]["apps"][0].update(appid="gateway"),
    "port that is text": lambda f: f["run.yaml"][0]["apps"][0].update(appPort="8000"),
    "variable that is no text": lambda f: f["run.yaml"][0]["apps"][0]["env"].update(X=1),
}


@pytest.mark.parametrize("mistake", BROKEN)
def test_mistake_is_found(mistake: str, files: Files, schemas: Schemas) -> None:
    BROKEN[mistake](files)
    assert invalid(files, schemas)
