"""Whatever a manifest names is there: objects, their keys, ports, listeners and containers."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pytest
from k8s.manifests import (
    PLATFORMS,
    RESTARTED,
    WORKLOADS,
    Cluster,
    Documents,
    drop,
    fields,
    name,
    named,
    of,
    secret_keys,
    template,
)


def dangling(documents: Documents) -> Iterator[str]:
    there = set(provided(documents))
    for document in documents:
        for reference in set(references(document)) - there:
            yield f"{name(document)} needs {reference}"


def provided(documents: Documents) -> Iterator[str]:
    keys = secret_keys()
    for document in documents:
        yield name(document)
        called, spec = document["metadata"]["name"], document.get("spec", {})
        match document["kind"]:
            case "Secret" | "ConfigMap":
                yield from parts(name(document), document["data"])
            case "ExternalSecret":
                secret = f"Secret/{spec['target']['name']}"
                yield from (secret, *parts(secret, keys[spec["target"]["name"]]))
            case "Cluster":
                yield from (f"Secret/{called}-ca", f"Secret/{called}-ca ca.crt")
            case "Certificate":
                yield f"Secret/{spec['secretName']}"
            case "Service":
                yield from parts(name(document), [port["port"] for port in spec["ports"]])
            case "Gateway":
                yield from parts(name(document), [one["name"] for one in spec["listeners"]])
            case kind if kind in RESTARTED:
                containers = template(document)["spec"]["containers"]
                yield from parts(name(document), [container["name"] for container in containers])
            case _:
                pass


def parts(whole: str, names: Any) -> Iterator[str]:
    yield from (f"{whole} {part}" for part in names)


def references(document: Any) -> Iterator[str]:
    spec = document.get("spec", {})
    yield from found_in(spec)
    if document["kind"] in WORKLOADS:
        yield from of_a_pod(template(document))
    if document["kind"] in BY_KIND:
        yield from BY_KIND[document["kind"]](spec)


def of_an_autoscaler(spec: Any) -> Iterator[str]:
    yield scaled(spec)
    for metric in spec["metrics"]:
        yield f"{scaled(spec)} {metric['containerResource']['container']}"


def of_a_scaled_object(spec: Any) -> Iterator[str]:
    yield scaled(spec)
    for trigger in spec["triggers"]:
        if "containerName" in trigger["metadata"]:
            yield f"{scaled(spec)} {trigger['metadata']['containerName']}"
        if "authenticationRef" in trigger:
            yield f"TriggerAuthentication/{trigger['authenticationRef']['name']}"


def of_a_route(spec: Any) -> Iterator[str]:
    for gateway in spec["parentRefs"]:
        yield f"Gateway/{gateway['name']} {gateway['sectionName']}"
    for rule in spec["rules"]:
        for service in rule.get("backendRefs", []):
            yield f"Service/{service['name']} {service['port']}"


def of_a_gateway(spec: Any) -> Iterator[str]:
    if parameters := spec.get("infrastructure", {}).get("parametersRef"):
        yield f"{parameters['kind']}/{parameters['name']}"
    for listener in spec["listeners"]:
        for certificate in listener.get("tls", {}).get("certificateRefs", []):
            yield f"Secret/{certificate['name']}"


def scaled(spec: Any) -> str:
    target = spec["scaleTargetRef"]
    return f"{target.get('kind', 'Deployment')}/{target['name']}"


def of_a_pod(pod: Any) -> Iterator[str]:
    annotations = pod.get("metadata", {}).get("annotations", {})
    for key in ("dapr.io/app-token-secret", "dapr.io/api-token-secret"):
        if key in annotations:
            yield f"Secret/{annotations[key]} token"
    if "dapr.io/config" in annotations:
        yield f"Configuration/{annotations['dapr.io/config']}"
    spec = pod["spec"]
    if "serviceAccountName" in spec:
        yield f"ServiceAccount/{spec['serviceAccountName']}"
    volumes = {volume["name"]: next(found_in(volume), None) for volume in spec.get("volumes", [])}
    for container in spec["containers"]:
        for mount in container.get("volumeMounts", []):
            if "subPath" in mount:
                yield f"{volumes[mount['name']]} {mount['subPath']}"


BY_KIND: Mapping[str, Callable[[Any], Iterable[str]]] = {
    "Certificate": lambda spec: [f"{spec['issuerRef']['kind']}/{spec['issuerRef']['name']}"],
    "Cluster": lambda spec: parts(
        f"Secret/{spec['superuserSecret']['name']}", ["username", "password"]
    ),
    "Gateway": of_a_gateway,
    "HTTPRoute": of_a_route,
    "HorizontalPodAutoscaler": of_an_autoscaler,
    "RabbitmqCluster": lambda spec: of_a_pod(spec["override"]["statefulSet"]["spec"]["template"]),
    "ScaledObject": of_a_scaled_object,
    "ScheduledBackup": lambda spec: [f"Cluster/{spec['cluster']['name']}"],
    "TriggerAuthentication": lambda spec: [
        f"Secret/{secret['name']} {secret['key']}" for secret in spec["secretTargetRef"]
    ],
}

NAMING = {
    "configMapRef": "ConfigMap",
    "configMapKeyRef": "ConfigMap",
    "configMap": "ConfigMap",
    "secretKeyRef": "Secret",
    "secret": "Secret",
    "accessKeyId": "Secret",
    "secretAccessKey": "Secret",
}
"""The fields that name a ConfigMap or a Secret, and maybe keys of it, wherever they are."""


def found_in(node: Any) -> Iterator[str]:
    for field, value in fields(node):
        if field in NAMING:
            whole = f"{NAMING[field]}/{value.get('name') or value['secretName']}"
            yield whole
            items = value.get("items", [value] if "key" in value else [])
            yield from (f"{whole} {item['key']}" for item in items)


@pytest.mark.parametrize("overlay", PLATFORMS)
def test_all_that_is_named_is_there(overlay: str, built: Cluster) -> None:
    assert list(dangling(built(overlay))) == []


def first(documents: Documents, kind: str) -> Any:
    return of(documents, kind)[0]["spec"]


def app(documents: Documents) -> Any:
    return template(named(documents, "Deployment")["orders"])["spec"]["containers"][0]


BROKEN: dict[str, tuple[str, Callable[[Documents], object]]] = {
    "no secret": ("local", lambda d: drop(d, "Secret", "orders-db")),
    "no token": ("local", lambda d: drop(d, "Secret", "app-api-token")),
    "no configuration": ("local", lambda d: drop(d, "Configuration", "waybill")),
    "no account": ("local", lambda d: drop(d, "ServiceAccount", "orders")),
    "no such key": (
        "local",
        lambda d: app(d)["env"][0]["valueFrom"]["secretKeyRef"].update(key="tokne"),
    ),
    "no such key for a component": (
        "local",
        lambda d: named(d, "Secret")["rabbitmq"]["data"].pop("connection-string"),
    ),
    "no such key in the secret manager": (
        "prod",
        lambda d: app(d)["env"][0]["valueFrom"]["secretKeyRef"].update(key="tokne"),
    ),
    "no file of the volume": (
        "prod",
        lambda d: first(d, "RabbitmqCluster")["override"]["statefulSet"]["spec"]["template"][
            "spec"
        ]["containers"][0]["volumeMounts"][1].update(subPath="user.json"),
    ),
    "autoscaler of nothing": (
        "prod",
        lambda d: first(d, "HorizontalPodAutoscaler")["scaleTargetRef"].update(name="order"),
    ),
    "autoscaler by nobody's processor time": (
        "prod",
        lambda d: first(d, "ScaledObject")["triggers"][1]["metadata"].update(containerName="ap"),
    ),
    "scaled object of nothing": (
        "prod",
        lambda d: first(d, "ScaledObject")["scaleTargetRef"].update(name="order"),
    ),
    "trigger without a login": ("prod", lambda d: drop(d, "TriggerAuthentication", "rabbitmq")),
    "login without its secret": ("prod", lambda d: drop(d, "ExternalSecret", "rabbitmq")),
    "login with another key": (
        "prod",
        lambda d: first(d, "TriggerAuthentication")["secretTargetRef"][0].update(key="host"),
    ),
    "route to nothing": ("prod", lambda d: drop(d, "Service", "gateway")),
    "route to another port": (
        "prod",
        lambda d: named(d, "HTTPRoute")["api"]["spec"]["rules"][0]["backendRefs"][0].update(
            port=8000
        ),
    ),
    "route from nowhere": (
        "prod",
        lambda d: first(d, "HTTPRoute")["parentRefs"][0].update(sectionName="htps"),
    ),
    "no certificate": ("prod", lambda d: drop(d, "Certificate", "api")),
    "edge without its number": ("prod", lambda d: drop(d, "EnvoyProxy", "edge")),
    "edge of Istio without its number": (
        "prod+istio",
        lambda d: drop(d, "ConfigMap", "waybill-istio"),
    ),
    "no issuer": ("prod", lambda d: drop(d, "ClusterIssuer", "letsencrypt")),
    "database without its superuser": ("prod", lambda d: drop(d, "ExternalSecret", "postgres")),
    "database without its certificate": ("prod", lambda d: drop(d, "Cluster", "postgres")),
    "backups without a login": (
        "prod",
        lambda d: drop(d, "ExternalSecret", "backup-credentials"),
    ),
    "backup of nothing": (
        "prod",
        lambda d: first(d, "ScheduledBackup")["cluster"].update(name="postgresql"),
    ),
}


@pytest.mark.parametrize("mistake", BROKEN)
def test_mistake_is_found(mistake: str, cluster: Cluster) -> None:
    overlay, break_it = BROKEN[mistake]
    documents = cluster(overlay)
    break_it(documents)
    assert list(dangling(documents))
