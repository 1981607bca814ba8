"""Every call of a sidecar is bounded, every delivery patient; both as far as YAML can say it."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeAlias

import pytest
from chassis.reconciliation import topics_by_producer
from chassis.sidecar import DEAD_LETTERS, PATIENCE_SECONDS, PUBSUB
from dashboard.dead_letters import ELSEWHERE
from gateway.routing import AREAS

Files: TypeAlias = dict[str, list[Any]]
Rule: TypeAlias = Callable[[Files], Iterator[str]]

CALLEES = {
    "gateway": {area.app_id for area in AREAS.values()},
    "orders": {"catalog"},
    "payments": {"payment-provider"},
    "dashboard": set(ELSEWHERE),
}
OF_EVERYBODY = {"users"}  # the keys that verify tokens
KINDS = {"timeout": "timeouts", "retry": "retries", "circuitBreaker": "circuitBreakers"}
CALLED_BY_SIDECARS_ONLY = "secretstores."
DELIVERING = (PUBSUB, DEAD_LETTERS)  # the second delivers only: nobody may publish to it
UNITS = {"s": "seconds", "m": "minutes", "h": "hours"}
LONGEST_TROUBLE = timedelta(hours=1)


def policies_of(files: Files) -> list[Any]:
    return [d for docs in files.values() for d in docs if d.get("kind") == "Resiliency"]


def guards(files: Files, app: str) -> list[Any]:
    return [document for document in policies_of(files) if app in document["scopes"]]


def uses(spec: Any) -> Iterator[tuple[str, str]]:
    """Every policy that a target names, as its kind and name."""
    ports = [port for sides in spec["targets"]["components"].values() for port in sides.values()]
    for target in [*spec["targets"]["apps"].values(), *ports]:
        for kind, name in target.items():
            yield KINDS[kind], name


def dangling(files: Files) -> Iterator[str]:
    """A policy that does not exist is no policy, and one that nothing uses misleads."""
    for document in policies_of(files):
        policies: dict[str, dict[str, Any]] = document["spec"]["policies"]
        defined = {(kind, name) for kind, named in policies.items() for name in named}
        for kind, name in defined ^ set(uses(document["spec"])):
            yield f"{document['metadata']['name']}: {name} is missing in {kind}, or unused"


def producers(app: str) -> set[str]:
    """Whose event logs a consumer reads."""
    if find_spec(f"{app}.subscriptions") is None:
        return set()
    return set(topics_by_producer(import_module(f"{app}.subscriptions").subscriptions))


def unguarded_calls(files: Files) -> Iterator[str]:
    for app in [app["appID"] for app in files["run.yaml"][0]["apps"]]:
        found = guards(files, app)
        if len(found) != 1:
            yield f"{app} has {len(found)} sets of policies"
            continue
        targets = found[0]["spec"]["targets"]["apps"]
        for callee in (CALLEES.get(app, set()) | OF_EVERYBODY | producers(app)) - {app}:
            if not {"timeout", "retry"} <= targets.get(callee, {}).keys():
                yield f"{app} → {callee} has no timeout or no retry"


def unguarded_components(files: Files) -> Iterator[str]:
    components = [d for docs in files.values() for d in docs if d.get("kind") == "Component"]
    for component in components:
        name = component["metadata"]["name"]
        if component["spec"]["type"].startswith(CALLED_BY_SIDECARS_ONLY) or name == DEAD_LETTERS:
            continue
        for guard in [g for app in component["scopes"] for g in guards(files, app)]:
            target = guard["spec"]["targets"]["components"].get(name, {})
            if "timeout" not in target.get("outbound", {}):
                yield f"{guard['metadata']['name']}: {name} has no timeout"


def unbounded_retries(files: Files) -> Iterator[str]:
    for document in policies_of(files):
        for name, retry in document["spec"]["policies"].get("retries", {}).items():
            if retry.get("maxRetries", -1) < 0:
                yield f"{name} never ends"


def retried_refusals(files: Files) -> Iterator[str]:
    """Without `matching`, a 404 or a 409 is repeated like a failure."""
    for document in policies_of(files):
        retries = document["spec"]["policies"]["retries"]
        for callee, target in document["spec"]["targets"]["apps"].items():
            if "matching" not in retries.get(target.get("retry"), {}):
                yield f"{callee}: every answer that is no success is repeated"


def repeated_overload(files: Files) -> Iterator[str]:
    """A service that has too much to do says 503; who asks again at once gives it more."""
    for document in policies_of(files):
        retries = document["spec"]["policies"]["retries"]
        for callee, target in document["spec"]["targets"]["apps"].items():
            codes = retries.get(target.get("retry"), {}).get("matching", {}).get("httpStatusCodes")
            if callee != "payment-provider" and (codes is None or includes(codes, 503)):
                yield f"{callee}: its 503 is repeated"


def includes(codes: str, code: int) -> bool:
    ranges = [part.partition("-") for part in codes.split(",")]
    return any(int(first) <= code <= int(last or first) for first, _, last in ranges)


def breakers_that_clients_can_open(files: Files) -> Iterator[str]:
    """A 401 and a declined card count as failures: at the edge, and at the provider, a customer
    could shut a service for everybody."""
    for document in policies_of(files):
        at_the_edge = "gateway" in document["scopes"]
        for callee, target in document["spec"]["targets"]["apps"].items():
            exposed = at_the_edge or callee == "payment-provider"
            if exposed and "circuitBreaker" in target:
                yield f"{callee} can be shut by a client"


def impatient_deliveries(files: Files) -> Iterator[str]:
    """An event outlasts an hour of trouble. Exponential retries end after 15 minutes, and an open
    breaker sends good events to the dead letters at once."""
    for document in policies_of(files):
        components = document["spec"]["targets"]["components"]
        retries = document["spec"]["policies"]["retries"]
        for inbound in [c["inbound"] for c in components.values() if "inbound" in c]:
            retry = retries.get(inbound.get("retry"), {})
            patience = retry.get("maxRetries", 0) * duration(retry.get("duration", "0s"))
            if retry.get("policy") != "constant" or patience < LONGEST_TROUBLE:
                yield f"events are given up after {patience}"
            if "timeout" not in inbound or "circuitBreaker" in inbound:
                yield "a delivery needs a timeout, and no circuit breaker"


def forsaken_publishes(files: Files) -> Iterator[str]:
    """Who publishes outwaits the tries of its sidecar."""
    for document in policies_of(files):
        policies = document["spec"]["policies"]
        outbound = document["spec"]["targets"]["components"].get(PUBSUB, {}).get("outbound")
        if outbound is None:
            continue
        timeout = duration(policies["timeouts"][outbound["timeout"]])
        retry = policies["retries"][outbound["retry"]]
        retries = retry["maxRetries"]
        longest = timeout * (retries + 1) + duration(retry["duration"]) * retries
        if longest >= timedelta(seconds=PATIENCE_SECONDS):
            yield f"a publish may take {longest}, and is published again meanwhile"


def duration(text: str) -> timedelta:
    if text.endswith("ms"):
        return timedelta(milliseconds=int(text.removesuffix("ms")))
    return timedelta(**{UNITS[text[-1]]: int(text[:-1])})


def undelivered(files: Files) -> Iterator[str]:
    """What is not retried by policy is delivered once, or again and again without a pause."""
    subscriptions = [d for docs in files.values() for d in docs if d.get("kind") == "Subscription"]
    for app in {app for subscription in subscriptions for app in subscription["scopes"]}:
        for guard in guards(files, app):
            targets = guard["spec"]["targets"]["components"]
            for component in DELIVERING:
                if "inbound" not in targets.get(component, {}):
                    yield f"{app}: {component} has no patience"


RULES: tuple[Rule, ...] = (
    dangling,
    unguarded_calls,
    unguarded_components,
    unbounded_retries,
    retried_refusals,
    repeated_overload,
    breakers_that_clients_can_open,
    impatient_deliveries,
    forsaken_publishes,
    undelivered,
)


@pytest.mark.parametrize("rule", RULES)
def test_policies_keep_the_rule(rule: Rule, files: Files) -> None:
    assert list(rule(files)) == []


def services(files: Files) -> Any:
    return files["dapr/resiliency.yaml"][0]


def edge(files: Files) -> Any:
    return files["dapr/resiliency-gateway.yaml"][0]


def target(files: Files, component: str) -> Any:
    return services(files)["spec"]["targets"]["components"][component]


def retry(files: Files, name: str) -> Any:
    return services(files)["spec"]["policies"]["retries"][name]


BROKEN: dict[str, tuple[Rule, Callable[[Files], object]]] = {
    "misspelt policy": (dangling, lambda f: target(f, "pubsub")["inbound"].update(retry="patien")),
    "unused policy": (dangling, lambda f: target(f, "email")["outbound"].pop("timeout")),
    "app without policies": (unguarded_calls, lambda f: services(f)["scopes"].remove("users")),
    "app with two sets": (unguarded_calls, lambda f: edge(f)["scopes"].append("orders")),
    "callee without a target": (
        unguarded_calls,
        lambda f: services(f)["spec"]["targets"]["apps"].pop("payment-provider"),
    ),
    "callee without a retry": (
        unguarded_calls,
        lambda f: edge(f)["spec"]["targets"]["apps"].update(orders={"timeout": "request"}),
    ),
    "component without a target": (
        unguarded_components,
        lambda f: services(f)["spec"]["targets"]["components"].pop("statestore"),
    ),
    "component without a timeout": (
        unguarded_components,
        lambda f: target(f, "email").update(outbound={}),
    ),
    "retry for ever": (unbounded_retries, lambda f: retry(f, "charge").pop("maxRetries")),
    "retry of refusals": (retried_refusals, lambda f: retry(f, "brief").pop("matching")),
    "breaker at the edge": (
        breakers_that_clients_can_open,
        lambda f: edge(f)["spec"]["targets"]["apps"].update(
            users={"timeout": "request", "retry": "restart", "circuitBreaker": "dependency"}
        ),
    ),
    "breaker at the provider": (
        breakers_that_clients_can_open,
        lambda f: services(f)["spec"]["targets"]["apps"]["payment-provider"].update(
            circuitBreaker="dependency"
        ),
    ),
    "exponential delivery": (
        impatient_deliveries,
        lambda f: retry(f, "patient").update(policy="exponential", maxInterval="30s"),
    ),
    "delivery given up too soon": (
        impatient_deliveries,
        lambda f: retry(f, "patient").update(maxRetries=60),
    ),
    "breaker on deliveries": (
        impatient_deliveries,
        lambda f: target(f, "pubsub")["inbound"].update(circuitBreaker="dependency"),
    ),
    "publish that outlasts its caller": (
        forsaken_publishes,
        lambda f: retry(f, "publish").update(maxRetries=3),
    ),
    "single delivery": (undelivered, lambda f: target(f, "pubsub").pop("inbound")),
    "dead letters without a pause": (
        undelivered,
        lambda f: target(f, "dead-letters").pop("inbound"),
    ),
}


@pytest.mark.parametrize("mistake", BROKEN)
def test_mistake_is_found(mistake: str, files: Files) -> None:
    rule, break_it = BROKEN[mistake]
    break_it(files)
    assert list(rule(files))
