"""What every workload must have, whichever overlay it is in."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
from k8s.manifests import (
    PLATFORMS,
    RESTARTED,
    WORKLOADS,
    Cluster,
    Documents,
    Rule,
    drop,
    fields,
    labels_of,
    leads_to,
    matches,
    name,
    named,
    of,
    services,
    template,
)

WITHOUT_NAMESPACE = {"Namespace", "ClusterIssuer"}
PINNED = re.compile(r":(?!latest$)[\w.-]+$|@sha256:[0-9a-f]{64}$")
SECRET_NAMES = re.compile(r"TOKEN|PASSWORD|SECRET|KEY(?!S|_ALIVE)|CREDENTIAL")
PASSWORD_IN_URL = re.compile(r"://[^/@]*:[^/@$]*@")
OF_THE_RABBITMQ_OPERATOR: Any = {
    "securityContext": {"fsGroup": 0, "runAsUser": 999},
    "initContainers": [{"name": "setup-container"}],
    "containers": [{"name": "rabbitmq"}],
}
"""What the pods of its version 2.16 say of their power, before a cluster's own `override`."""


def containers(workload: Any) -> Iterator[Any]:
    spec = template(workload)["spec"]
    yield from (*spec["containers"], *spec.get("initContainers", []))


def every_container(documents: Documents) -> Iterator[tuple[str, Any]]:
    for workload in of(documents, *WORKLOADS):
        for container in containers(workload):
            yield f"{name(workload)} {container['name']}", container


def floating_images(documents: Documents) -> Iterator[str]:
    for where, container in every_container(documents):
        if not PINNED.search(container["image"]):
            yield f"{where}: {container['image']}"


def unbounded(documents: Documents) -> Iterator[str]:
    for where, container in every_container(documents):
        for side in ("requests", "limits"):
            missing = {"cpu", "memory"} - container.get("resources", {}).get(side, {}).keys()
            yield from (f"{where}: no {side} of {resource}" for resource in missing)
    for workload in of(documents, "Deployment"):
        annotations = template(workload)["metadata"].get("annotations", {})
        if annotations.get("dapr.io/enabled") == "true":
            for side in ("cpu-request", "cpu-limit", "memory-request", "memory-limit"):
                if f"dapr.io/sidecar-{side}" not in annotations:
                    yield f"{name(workload)}: no {side} of the sidecar"


def unprobed(documents: Documents) -> Iterator[str]:
    for workload in of(documents, *RESTARTED):
        for container in template(workload)["spec"]["containers"]:
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if probe not in container:
                    yield f"{name(workload)} has no {probe}"


def restarted_for_others(documents: Documents) -> Iterator[str]:
    """A new process has no better database or sidecar than the old one."""
    for where, container in every_container(documents):
        probe = container.get("livenessProbe", {})
        if container["name"] == "app" and probe.get("httpGet", {}).get("path") != "/live":
            yield f"{where} is restarted for the sake of others"


def powerful_pods(documents: Documents) -> Iterator[str]:
    for workload in of(documents, *WORKLOADS):
        spec = template(workload)["spec"]
        context = spec.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
            yield f"{name(workload)} may run as root"
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{name(workload)} may make any system call"
        if spec.get("automountServiceAccountToken") is not False:
            yield f"{name(workload)} has a token of the API server"
        if spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}:
            yield f"{name(workload)} shares the node's namespaces"
        if any("hostPath" in volume for volume in spec.get("volumes", [])):
            yield f"{name(workload)} reads the node's files"


def powerful_containers(documents: Documents) -> Iterator[str]:
    for where, container in every_container(documents):
        context = container.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{where} may gain privileges"
        if context.get("readOnlyRootFilesystem") is not True:
            yield f"{where} may change its own program"
        if context.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{where} has capabilities"


def unadmitted(documents: Documents) -> Iterator[str]:
    """What an operator makes is held against the namespace's rules, too."""
    for cluster in of(documents, "RabbitmqCluster"):
        override = cluster["spec"]["override"]["statefulSet"]["spec"]["template"]["spec"]
        spec = deepcopy(OF_THE_RABBITMQ_OPERATOR)
        spec["securityContext"] |= override.get("securityContext", {})
        for kind in ("initContainers", "containers"):
            said = {container["name"]: container for container in override.get(kind, [])}
            spec[kind] = [container | said.get(container["name"], {}) for container in spec[kind]]
        yield from (f"{name(cluster)} {reason}" for reason in unrestricted(spec))


def unrestricted(spec: Any) -> Iterator[str]:
    """By the Pod Security Standard `restricted`, as far as it is about contexts."""
    context = spec["securityContext"]
    if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
        yield "may run as root"
    if context.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
        yield "may make any system call"
    for container in (*spec["initContainers"], *spec["containers"]):
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"{container['name']} may gain privileges"
        if "ALL" not in own.get("capabilities", {}).get("drop", []):
            yield f"{container['name']} has capabilities"


def undisrupted(documents: Documents) -> Iterator[str]:
    """One budget each: with none all pods may go at once, with two none can be evicted."""
    budgets = of(documents, "PodDisruptionBudget")
    for workload in of(documents, *RESTARTED, "RabbitmqCluster"):
        labels = labels_of(workload)
        found = [b for b in budgets if matches(b["spec"]["selector"], labels)]
        if len(found) != 1:
            yield f"{name(workload)} has {len(found)} disruption budgets"


def undenied(documents: Documents) -> Iterator[str]:
    for policy in of(documents, "NetworkPolicy"):
        spec = policy["spec"]
        if spec["podSelector"] == {} and set(spec["policyTypes"]) == {"Ingress", "Egress"}:
            return
    yield "what no policy names is open"


def misplaced(documents: Documents) -> Iterator[str]:
    for document in documents:
        namespace = document["metadata"].get("namespace")
        if document["kind"] not in WITHOUT_NAMESPACE and namespace != "waybill":
            yield f"{name(document)} is in {namespace}"


def told_secrets(documents: Documents) -> Iterator[str]:
    """Secrets are referred to, and what is plain holds none."""
    for where, container in every_container(documents):
        for variable in container.get("env", []):
            if "value" in variable and SECRET_NAMES.search(variable["name"]):
                yield f"{where} is told {variable['name']}"
    for document in of(documents, "ConfigMap"):
        if PASSWORD_IN_URL.search(str(document["data"])):
            yield f"{name(document)} has a password"


def deaf_services(documents: Documents) -> Iterator[str]:
    """Each Service leads to pods, at a port that they have."""
    workloads = of(documents, *RESTARTED)
    for service in of(documents, "Service"):
        pods = [w for w in workloads if leads_to(service, w)]
        ports = {
            port["name"]
            for workload in pods
            for container in template(workload)["spec"]["containers"]
            for port in container.get("ports", [])
        }
        for port in service["spec"]["ports"]:
            if port["targetPort"] not in ports:
                yield f"{name(service)}: nothing has the port {port['targetPort']}"


def cut_off(documents: Documents) -> Iterator[str]:
    """An app drains, then its sidecar; both within the pod's grace."""
    settings = of(documents, "ConfigMap")
    (platform,) = [d for d in settings if d["metadata"]["name"].startswith("platform-")]
    drain = int(platform["data"]["UVICORN_TIMEOUT_GRACEFUL_SHUTDOWN"])
    for workload in services(documents):
        spec, annotations = (
            template(workload)["spec"],
            template(workload)["metadata"]["annotations"],
        )
        pause = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        sidecar = int(annotations["dapr.io/graceful-shutdown-seconds"])
        if annotations.get("dapr.io/enable-native-sidecar") != "true":
            yield f"{name(workload)}: the sidecar ends with the app instead of after it"
        if not drain < sidecar or pause + drain + sidecar > spec["terminationGracePeriodSeconds"]:
            yield f"{name(workload)} is killed while it drains"


def fixed_in_size(documents: Documents) -> Iterator[str]:
    """What an autoscaler scales says no number of its own, or each deployment resets it."""
    targets = [d["spec"]["scaleTargetRef"]["name"] for d in of(documents, *AUTOSCALERS)]
    yield from (f"{target} has {n} autoscalers" for target, n in Counter(targets).items() if n > 1)
    for workload in services(documents):
        if "replicas" in workload["spec"]:
            yield f"{name(workload)} is set to {workload['spec']['replicas']}"
    for scaler in of(documents, "HorizontalPodAutoscaler"):
        for metric in scaler["spec"]["metrics"]:
            if metric.get("containerResource", {}).get("container") != "app":
                yield f"{name(scaler)} counts the sidecar"


AUTOSCALERS = ("HorizontalPodAutoscaler", "ScaledObject")


def huddled(documents: Documents) -> Iterator[str]:
    for workload in services(documents):
        labels = template(workload)["metadata"]["labels"]
        spread = template(workload)["spec"].get("topologySpreadConstraints", [])
        keys = {s["topologyKey"] for s in spread if matches(s["labelSelector"], labels)}
        if keys != {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}:
            yield f"{name(workload)} may lie on one node"


def stuck(documents: Documents) -> Iterator[str]:
    """A node that takes no pods counts unless it is left out, and others then take none either."""
    for document in documents:
        for constraint in spreads(document):
            is_hard = constraint["whenUnsatisfiable"] == "DoNotSchedule"
            if is_hard and constraint.get("nodeTaintsPolicy") != "Honor":
                yield f"{name(document)} waits for nodes that take no pods"


def spreads(document: Any) -> Iterator[Any]:
    for field, value in fields(document):
        if field == "topologySpreadConstraints":
            yield from value


def app_id(workload: Any) -> str:
    return template(workload)["metadata"]["annotations"]["dapr.io/app-id"]


def namesakes(documents: Documents) -> Iterator[str]:
    """Dapr's operator makes one Service of a name, and each Deployment takes it from the other."""
    names = Counter(app_id(workload) for workload in services(documents))
    yield from (f"{n} Deployments are {one} to Dapr" for one, n in names.items() if n > 1)


def estranged(documents: Documents) -> Iterator[str]:
    """Who runs the same program may do the same, whatever its name in Dapr."""
    programs: defaultdict[str, set[str]] = defaultdict(set)
    for workload in services(documents):
        labels = template(workload)["metadata"]["labels"]
        programs[labels["app.kubernetes.io/name"]].add(app_id(workload))
    (configuration,) = of(documents, "Configuration")
    policies = configuration["spec"]["accessControl"]["policies"]
    granted = {policy["appId"]: policy | {"appId": None} for policy in policies}
    for ids in programs.values():
        if any(granted.get(one) != granted.get(min(ids)) for one in ids):
            yield f"{sorted(ids)} may not call the same"
        for document in documents:
            if ids & set(document.get("scopes", ())) not in (set(), ids):
                yield f"{name(document)} is not for all of {sorted(ids)}"


def unordered(documents: Documents) -> Iterator[str]:
    """An app with a database starts once its schema is there, which a Job of its own makes."""
    jobs = {job["metadata"]["name"]: job for job in of(documents, "Job")}
    for workload in services(documents):
        first = template(workload)["spec"].get("initContainers", [])
        if "waybill.example/database" not in template(workload)["metadata"]["labels"]:
            continue
        if [c["command"][-1] for c in first if c["name"] == "schema"] != ["--wait"]:
            yield f"{name(workload)} starts before its schema is there"
        job = jobs.get(f"{workload['metadata']['name']}-migration")
        if job is None or job["spec"].get("ttlSecondsAfterFinished") is None:
            yield f"{name(workload)} has no migration, or one that is in the way of the next"
    for job in jobs.values():
        if "activeDeadlineSeconds" not in job["spec"]:
            yield f"{name(job)} may hang for ever"


RULES: tuple[Rule, ...] = (
    floating_images,
    unbounded,
    unprobed,
    restarted_for_others,
    powerful_pods,
    powerful_containers,
    unadmitted,
    undisrupted,
    undenied,
    misplaced,
    told_secrets,
    deaf_services,
    cut_off,
    fixed_in_size,
    huddled,
    stuck,
    namesakes,
    estranged,
    unordered,
)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("overlay", PLATFORMS)
def test_overlay_keeps_the_rule(overlay: str, rule: Rule, built: Cluster) -> None:
    assert list(rule(built(overlay))) == []


def test_each_service_is_scaled_in_production(built: Cluster) -> None:
    documents = built("prod")
    scaled = {d["spec"]["scaleTargetRef"]["name"] for d in of(documents, *AUTOSCALERS)}
    assert scaled == {d["metadata"]["name"] for d in services(documents)}


def orders(documents: Documents) -> Any:
    return next(d for d in services(documents) if d["metadata"]["name"] == "orders")


def app(documents: Documents) -> Any:
    return template(orders(documents))["spec"]["containers"][0]


def annotations(documents: Documents) -> Any:
    return template(orders(documents))["metadata"]["annotations"]


def pod(documents: Documents) -> Any:
    return template(orders(documents))["spec"]


def budget_of_all(documents: Documents) -> None:
    second = {"matchLabels": {"app.kubernetes.io/part-of": "waybill"}}
    documents.append(
        {
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "all"},
            "spec": {"maxUnavailable": 1, "selector": second},
        }
    )


BROKEN: dict[str, tuple[Rule, Callable[[Documents], object]]] = {
    "latest": (floating_images, lambda d: app(d).update(image="waybill/orders:latest")),
    "no tag": (floating_images, lambda d: app(d).update(image="localhost:5000/waybill/orders")),
    "no limit": (unbounded, lambda d: app(d)["resources"]["limits"].pop("memory")),
    "no limit of an init container": (
        unbounded,
        lambda d: pod(d)["initContainers"][0]["resources"].pop("limits"),
    ),
    "no limit of the sidecar": (
        unbounded,
        lambda d: annotations(d).pop("dapr.io/sidecar-memory-limit"),
    ),
    "no readiness": (unprobed, lambda d: app(d).pop("readinessProbe")),
    "restart for want of a database": (
        restarted_for_others,
        lambda d: app(d)["livenessProbe"]["httpGet"].update(path="/health"),
    ),
    "root": (powerful_pods, lambda d: pod(d)["securityContext"].pop("runAsNonRoot")),
    "any system call": (powerful_pods, lambda d: pod(d)["securityContext"].pop("seccompProfile")),
    "token of the API server": (
        powerful_pods,
        lambda d: pod(d).pop("automountServiceAccountToken"),
    ),
    "node's network": (powerful_pods, lambda d: pod(d).update(hostNetwork=True)),
    "node's files": (
        powerful_pods,
        lambda d: pod(d).update(volumes=[{"name": "x", "hostPath": {"path": "/"}}]),
    ),
    "writable root": (
        powerful_containers,
        lambda d: app(d)["securityContext"].pop("readOnlyRootFilesystem"),
    ),
    "capabilities": (powerful_containers, lambda d: app(d)["securityContext"].pop("capabilities")),
    "escalation": (
        powerful_containers,
        lambda d: app(d)["securityContext"].pop("allowPrivilegeEscalation"),
    ),
    "no budget": (undisrupted, lambda d: drop(d, "PodDisruptionBudget", "orders")),
    "two budgets": (undisrupted, budget_of_all),
    "open network": (undenied, lambda d: drop(d, "NetworkPolicy", "default-deny")),
    "another namespace": (misplaced, lambda d: orders(d)["metadata"].update(namespace="default")),
    "told password": (
        told_secrets,
        lambda d: app(d)["env"].append({"name": "SMTP_PASSWORD", "value": "secret"}),
    ),
    "password in a ConfigMap": (
        told_secrets,
        lambda d: of(d, "ConfigMap")[0]["data"].update(URL="amqp://waybill:secret@rabbitmq"),
    ),
    "service that leads nowhere": (
        deaf_services,
        lambda d: of(d, "Service")[0]["spec"].update(selector={"app": "none"}),
    ),
    "service at another port": (
        deaf_services,
        lambda d: of(d, "Service")[0]["spec"]["ports"][0].update(targetPort="https"),
    ),
    "short grace": (cut_off, lambda d: pod(d).update(terminationGracePeriodSeconds=10)),
    "impatient sidecar": (
        cut_off,
        lambda d: annotations(d).update({"dapr.io/graceful-shutdown-seconds": "5"}),
    ),
    "sidecar that ends first": (
        cut_off,
        lambda d: annotations(d).pop("dapr.io/enable-native-sidecar"),
    ),
    "number of replicas": (fixed_in_size, lambda d: orders(d)["spec"].update(replicas=2)),
    "scaled by the sidecar": (
        fixed_in_size,
        lambda d: of(d, "HorizontalPodAutoscaler")[0]["spec"].update(
            metrics=[{"type": "Resource", "resource": {"name": "cpu"}}]
        ),
    ),
    "all on one node": (huddled, lambda d: pod(d).pop("topologySpreadConstraints")),
    "name of another": (namesakes, lambda d: annotations(d).update({"dapr.io/app-id": "users"})),
    "app before its schema": (unordered, lambda d: pod(d).pop("initContainers")),
    "no migration": (unordered, lambda d: drop(d, "Job", "orders-migration")),
    "migration that stays": (
        unordered,
        lambda d: [j["spec"].pop("ttlSecondsAfterFinished") for j in of(d, "Job")],
    ),
    "job without an end": (
        unordered,
        lambda d: of(d, "Job")[0]["spec"].pop("activeDeadlineSeconds"),
    ),
}


def broker(documents: Documents) -> Any:
    cluster = named(documents, "RabbitmqCluster")["rabbitmq"]
    return cluster["spec"]["override"]["statefulSet"]["spec"]["template"]["spec"]


BROKEN_IN_PRODUCTION: dict[str, tuple[Rule, Callable[[Documents], object]]] = {
    "broker without a budget": (undisrupted, lambda d: drop(d, "PodDisruptionBudget", "rabbitmq")),
    "broker that may run as root": (
        unadmitted,
        lambda d: broker(d)["securityContext"].pop("runAsNonRoot"),
    ),
    "broker that may make any system call": (
        unadmitted,
        lambda d: broker(d)["securityContext"].pop("seccompProfile"),
    ),
    "broker with capabilities": (
        unadmitted,
        lambda d: broker(d)["containers"][0]["securityContext"].pop("capabilities"),
    ),
    "broker set up with privileges": (unadmitted, lambda d: broker(d).pop("initContainers")),
    "rollout that waits for a drained node": (
        stuck,
        lambda d: pod(d)["topologySpreadConstraints"][1].pop("nodeTaintsPolicy"),
    ),
    "database that waits for a drained node": (
        stuck,
        lambda d: next(spreads(of(d, "Cluster"))).pop("nodeTaintsPolicy"),
    ),
}


def next_gateway(documents: Documents) -> Any:
    return template(named(documents, "Deployment")["gateway-next"])["metadata"]["annotations"]


def callers(documents: Documents) -> Any:
    (configuration,) = of(documents, "Configuration")
    return configuration["spec"]["accessControl"]["policies"]


BROKEN_BESIDE_THE_STABLE: dict[str, tuple[Rule, Callable[[Documents], object]]] = {
    "two gateways of one name": (
        namesakes,
        lambda d: next_gateway(d).update({"dapr.io/app-id": "gateway"}),
    ),
    "gateway that may call nobody": (
        estranged,
        lambda d: callers(d).remove(next(p for p in callers(d) if p["appId"] == "gateway-next")),
    ),
    "gateway without its switches": (
        estranged,
        lambda d: named(d, "Component")["configstore"]["scopes"].remove("gateway-next"),
    ),
    "gateway without retries": (
        estranged,
        lambda d: named(d, "Resiliency")["edge"]["scopes"].remove("gateway-next"),
    ),
}
MISTAKES = {
    **{mistake: ("local", *broken) for mistake, broken in BROKEN.items()},
    **{mistake: ("prod", *broken) for mistake, broken in BROKEN_IN_PRODUCTION.items()},
    **{mistake: ("prod+canary", *broken) for mistake, broken in BROKEN_BESIDE_THE_STABLE.items()},
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_found(mistake: str, cluster: Cluster) -> None:
    overlay, rule, break_it = MISTAKES[mistake]
    documents = cluster(overlay)
    break_it(documents)
    assert list(rule(documents))


def test_every_rule_has_a_mistake() -> None:
    assert {rule for _, rule, _ in MISTAKES.values()} == set(RULES)
