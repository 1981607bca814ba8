"""The cluster runs what `waybill up` runs: same apps, ports, settings, components and topics."""

import base64
import json
import re
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from chassis.sidecar import TOPIC
from k8s.manifests import (
    GUIDE,
    OVERLAYS,
    Cluster,
    Documents,
    named,
    secret_keys,
    services,
    template,
)
from waybill import project
from waybill.parts import rabbitmq

WATCH = "watch-raft.erl"
ROOT = Path(__file__).parents[2]
HEALTH = {
    "dapr.io/enable-app-health-check": "enableAppHealthCheck",
    "dapr.io/app-health-check-path": "appHealthCheckPath",
    "dapr.io/app-health-probe-interval": "appHealthProbeInterval",
    "dapr.io/app-health-probe-timeout": "appHealthProbeTimeout",
    "dapr.io/app-health-threshold": "appHealthThreshold",
}
COMMON = {
    "dapr.io/app-protocol": "appProtocol",
    "dapr.io/max-body-size": "maxBodySize",
    "dapr.io/read-buffer-size": "readBufferSize",
}
OF_THE_CLUSTER = {"PGHOST", "PGPORT", "PGSSLMODE", "PGSSLROOTCERT"}
OF_AN_OVERLAY = {"WAYBILL_RATE_LIMITS", "TRUSTED_PROXIES", "CORS_ALLOW_ORIGINS"}
OF_THE_CHECKOUT = {"DATABASE_URL", "PGPASSFILE"}
OF_PRODUCTION = {"backup-credentials"}
OF_THE_STAND_IN = {"api-key", "webhook-secret"}


@pytest.fixture(scope="session")
def run() -> Any:
    return yaml.safe_load((ROOT / "run.yaml").read_text())


def apps(documents: Documents) -> dict[str, Any]:
    return {d["metadata"]["name"]: template(d) for d in services(documents)}


def settings(documents: Documents, pod: Any, index: int) -> dict[str, str]:
    reference = pod["spec"]["containers"][0]["envFrom"][index]["configMapRef"]["name"]
    return named(documents, "ConfigMap")[reference]["data"]


def text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_app_runs_under_its_name_and_port(overlay: str, run: Any, built: Cluster) -> None:
    found = apps(built(overlay))
    assert found.keys() == {app["appID"] for app in run["apps"]}
    for app in run["apps"]:
        pod = found[app["appID"]]
        annotations = pod["metadata"]["annotations"]
        (container,) = pod["spec"]["containers"]
        assert annotations["dapr.io/app-id"] == app["appID"]
        assert annotations["dapr.io/app-port"] == str(app["appPort"])
        assert [port["containerPort"] for port in container["ports"]] == [app["appPort"]]
        assert pod["spec"]["serviceAccountName"] == app["appID"]
        assert re.search(rf"waybill/{app['appID']}:", container["image"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_sidecars_are_told_the_same(overlay: str, run: Any, built: Cluster) -> None:
    for app in run["apps"]:
        annotations = apps(built(overlay))[app["appID"]]["metadata"]["annotations"]
        for annotation, option in COMMON.items():
            assert annotations[annotation] == text(run["common"][option])
        checks = {a: text(app[option]) for a, option in HEALTH.items() if option in app}
        assert {a: v for a, v in annotations.items() if a in HEALTH} == checks


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_apps_are_told_the_same(overlay: str, run: Any, built: Cluster) -> None:
    documents = built(overlay)
    for app in run["apps"]:
        pod = apps(documents)[app["appID"]]
        common, own = settings(documents, pod, 0), settings(documents, pod, 1)
        told = {k: v for k, v in common.items() if k not in OF_THE_CLUSTER}
        assert told == run["common"]["env"] | {"UVICORN_HOST": "0.0.0.0"}
        expected = {k: v for k, v in app.get("env", {}).items() if k not in OF_THE_CHECKOUT}
        expected |= {"APP_ID": app["appID"], "UVICORN_PORT": str(app["appPort"])}
        assert {k: v for k, v in own.items() if k not in OF_AN_OVERLAY} == expected


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_app_and_sidecar_have_the_same_tokens(overlay: str, built: Cluster) -> None:
    annotations = {
        "APP_API_TOKEN": "dapr.io/app-token-secret",
        "DAPR_API_TOKEN": "dapr.io/api-token-secret",
    }
    for pod in apps(built(overlay)).values():
        (container,) = pod["spec"]["containers"]
        given = {v["name"]: v.get("valueFrom") for v in container["env"]}
        for variable, annotation in annotations.items():
            secret = pod["metadata"]["annotations"][annotation]
            assert given[variable] == {"secretKeyRef": {"name": secret, "key": "token"}}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_database_is_made_and_migrated(overlay: str, built: Cluster) -> None:
    databases = set(project.find().databases)
    documents = built(overlay)
    migrated = {name.removesuffix("-migration") for name in named(documents, "Job")}
    assert migrated == databases | {"provisioning"}
    volumes = named(documents, "Job")["provisioning"]["spec"]["template"]["spec"]["volumes"]
    (passwords,) = [v["projected"]["sources"] for v in volumes if "projected" in v]
    secrets = {source["secret"]["name"] for source in passwords}
    assert secrets == {f"{s}-db{role}" for s in databases for role in ("", "-owner")}
    script = (ROOT / "k8s/base/provisioning/provision.sh").read_text()
    (looped,) = re.findall(r"^for service in (.*); do$", script, re.MULTILINE)
    assert set(looped.split()) == databases


def test_every_file_of_the_sidecars_is_taken() -> None:
    for folder in ("components", "dapr"):
        there = {
            path.relative_to(ROOT / folder).as_posix()
            for path in (ROOT / folder).rglob("*.yaml")
            if path.name != "kustomization.yaml"
        }
        taken = yaml.safe_load((ROOT / folder / "kustomization.yaml").read_text())["resources"]
        assert set(taken) == there


def source(pattern: str) -> Documents:
    return [yaml.safe_load(path.read_text()) for path in sorted(ROOT.glob(pattern))]


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("kind", ["Component", "HTTPEndpoint", "Resiliency", "Subscription"])
def test_resources_are_those_of_the_checkout(kind: str, overlay: str, built: Cluster) -> None:
    files = [*source("components/*.yaml"), *source("dapr/*.yaml"), *source("dapr/*/*.yaml")]
    here = {d["metadata"]["name"]: d for d in files if d["kind"] == kind}
    here.pop("secretstore", None)  # the operator reads the Secrets
    there = named(built(overlay), kind)
    assert there.keys() == here.keys()
    for name, document in here.items():
        assert there[name].get("scopes") == document.get("scopes")
        assert told(there[name]) == told(document)
        if "auth" in document:
            assert there[name]["auth"] == {"secretStore": "kubernetes"}


ELSEWHERE = {"secretsFile", "host", "port", "emailFrom", "baseUrl"}


def told(document: Any) -> Any:
    """All that a resource says, but where things are found."""
    spec = {key: value for key, value in document["spec"].items() if key not in ELSEWHERE}
    if "metadata" in spec and document["kind"] == "Component":
        spec["metadata"] = [item for item in spec["metadata"] if item["name"] not in ELSEWHERE]
    return spec


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_access_control_is_that_of_the_checkout(overlay: str, built: Cluster) -> None:
    (here,) = [d for d in source("dapr/config.yaml") if d["kind"] == "Configuration"]
    there = named(built(overlay), "Configuration")["waybill"]
    expected = here["spec"]["accessControl"]
    for policy in expected["policies"]:
        policy["namespace"] = "waybill"
    assert there["spec"]["accessControl"] == expected
    assert there["spec"]["secrets"]["scopes"][0]["defaultAccess"] == "deny"


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("app", ["users", "payments"])
def test_a_secret_of_its_own_lies_where_the_sidecar_looks(
    app: str, overlay: str, built: Cluster
) -> None:
    documents = built(overlay)
    (item,) = named(documents, "Component")[f"{app}-secrets"]["spec"]["metadata"]
    pod = apps(documents)[app]
    volume, _, folder = pod["metadata"]["annotations"]["dapr.io/volume-mounts"].partition(":")
    (mounted,) = [v for v in pod["spec"]["volumes"] if v["name"] == volume]
    assert item["value"] == f"{folder}/{app}.json"
    assert mounted["secret"]["secretName"] == f"{app}-secrets"
    for container in pod["spec"]["containers"]:
        mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
        assert volume not in mounts  # the app asks its sidecar


def test_the_broker_begins_with_the_queues_of_the_checkout() -> None:
    expected = rabbitmq.topology(rabbitmq.dead_letter_topics(project.find()))
    path = ROOT / "k8s/base/stores/rabbitmq/topology/topology.json"
    assert json.loads(path.read_text()) == expected


@pytest.mark.parametrize(
    ("overlay", "kind", "pod"),
    [
        ("local", "StatefulSet", ["spec", "template", "spec"]),
        (
            "prod",
            "RabbitmqCluster",
            ["spec", "override", "statefulSet", "spec", "template", "spec"],
        ),
    ],
)
def test_a_broker_that_has_lost_raft_ends(
    overlay: str, kind: str, pod: list[str], built: Cluster
) -> None:
    spec = reduce(getitem, pod, named(built(overlay), kind)["rabbitmq"])
    [broker] = [c for c in spec["containers"] if c["name"] == "rabbitmq"]
    [watch] = [m["mountPath"] for m in broker["volumeMounts"] if m.get("subPath") == WATCH]
    settings = {setting["name"]: setting["value"] for setting in broker["env"]}
    arguments = settings["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"]
    assert arguments == f'-eval file:script("{watch}")'


def test_keda_watches_the_queues_of_the_subscribers(built: Cluster) -> None:
    documents = built("prod")
    subscribers = {app for s in named(documents, "Subscription").values() for app in s["scopes"]}
    watched = {
        name: scaled["spec"]["triggers"][0]["metadata"]["queueName"]
        for name, scaled in named(documents, "ScaledObject").items()
    }
    assert watched == {app: f"{app}-{TOPIC}" for app in subscribers}


def test_alerts_are_about_metrics_that_there_are(built: Cluster) -> None:
    code = "".join(
        path.read_text()
        for folder in ("packages", "services")
        for path in ROOT.glob(f"{folder}/*/src/**/*.py")
    )
    rules = named(built("prod"), "PrometheusRule")["waybill"]["spec"]["groups"][0]["rules"]
    metrics = {
        metric
        for rule in rules
        for metric in re.findall(r"\b([a-z]+(?:_[a-z]+)+)(?=[{)\[])", rule["expr"])
        if metric != "app_kubernetes_io_name"
    }
    assert len(metrics) == len(rules)
    assert [metric for metric in metrics if f'"{metric}"' not in code] == []


def test_secrets_of_development_and_production_are_the_same_names(built: Cluster) -> None:
    external = named(built("prod"), "ExternalSecret").keys() - OF_PRODUCTION
    assert external == named(built("local"), "Secret").keys()


def test_secrets_have_the_keys_that_the_guide_lists(built: Cluster) -> None:
    made = {name: set(secret["data"]) for name, secret in named(built("local"), "Secret").items()}
    made["payment-provider"] -= OF_THE_STAND_IN
    listed = {name: keys for name, keys in secret_keys().items() if name not in OF_PRODUCTION}
    assert listed == made


@pytest.mark.parametrize("overlay", ["dev", "local"])
def test_the_broker_is_found_from_any_namespace(overlay: str, built: Cluster) -> None:
    """KEDA's operator and Dapr's each ask for it from their own."""
    documents = built(overlay)
    secret = named(documents, "Secret")["rabbitmq"]["data"]["connection-string"]
    address = urlsplit(base64.b64decode(secret).decode())
    found = {
        f"{n}.{s['metadata']['namespace']}.svc" for n, s in named(documents, "Service").items()
    }
    assert address.hostname in found
    (documented,) = re.findall(r"amqp://user:password@(\S+?)`", GUIDE.read_text())
    assert documented == f"{address.hostname}:{address.port}{address.path}"
