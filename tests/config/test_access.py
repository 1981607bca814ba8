"""Sidecars refuse what nobody has allowed, and keep the secrets of the infrastructure."""

from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeAlias

import pytest
from chassis.identity import JWKS_PATH
from chassis.reconciliation import topics_by_producer
from dashboard.dead_letters import ELSEWHERE
from gateway.routing import AREAS

Files: TypeAlias = dict[str, list[Any]]
Rule: TypeAlias = Callable[[Files], Iterator[str]]

JWKS = "/" + JWKS_PATH.removeprefix("/")
PUBLIC = {f"/{area}/**" for area in AREAS} | {"/openapi.json"}
DESKS = {f"/internal/{service}/dead-letters/**" for service in ELSEWHERE}
MAY_CALL = {"gateway": PUBLIC, "orders": {"/internal/prices"}, "dashboard": DESKS}
CALLS_NOBODY = {"users"}


def spec(files: Files) -> Any:
    return files["dapr/config.yaml"][0]["spec"]


def open_doors(files: Files) -> Iterator[str]:
    """Callers have an identity, and whoever is not named is refused."""
    control = spec(files)["accessControl"]
    if not spec(files)["mtls"]["enabled"]:
        yield "callers prove nothing without mTLS"
    if control["defaultAction"] != "deny":
        yield "a caller without a policy is let in"
    for policy in control["policies"]:
        if policy["defaultAction"] != "deny":
            yield f"{policy['appId']} may call everything"
        if (policy["trustDomain"], policy["namespace"]) != (control["trustDomain"], "default"):
            yield f"{policy['appId']}'s policy belongs to another domain, and is not applied"


def histories(app: str) -> set[str]:
    """A consumer compares the event logs of its producers with its inbox."""
    if find_spec(f"{app}.subscriptions") is None:
        return set()
    subscriptions = import_module(f"{app}.subscriptions").subscriptions
    return {f"/internal/{producer}/events" for producer in topics_by_producer(subscriptions)}


def wrong_callers(files: Files) -> Iterator[str]:
    """Each caller is allowed the routes that it calls: no more, and none less."""
    expected = {
        app: {JWKS} | MAY_CALL.get(app, set()) | histories(app)
        for app in (app["appID"] for app in files["run.yaml"][0]["apps"])
    }
    allowed = {
        policy["appId"]: {operation["name"] for operation in policy["operations"]}
        for policy in spec(files)["accessControl"]["policies"]
    }
    for app in (expected.keys() | allowed.keys()) - CALLS_NOBODY:
        if expected.get(app) != allowed.get(app):
            yield f"{app} may call {allowed.get(app)}"


def shadowed_routes(files: Files) -> Iterator[str]:
    """Dapr takes a route without a wildcard for all below it, and the first of two that match."""
    for policy in spec(files)["accessControl"]["policies"]:
        names = [operation["name"].removesuffix("/**") for operation in policy["operations"]]
        for name in names:
            if any(other.startswith(f"{name}/") for other in names) or names.count(name) > 1:
                yield f"{policy['appId']}: {name} hides others"


def readable_infrastructure(files: Files) -> Iterator[str]:
    scopes = {s["storeName"]: s for s in spec(files).get("secrets", {}).get("scopes", [])}
    secretstore = scopes.get("secretstore", {})
    if secretstore.get("defaultAccess") != "deny" or secretstore.get("allowedSecrets"):
        yield "services can read what connects the components"


def changing_underfoot(files: Files) -> Iterator[str]:
    features = {f["name"]: f["enabled"] for f in spec(files).get("features", [])}
    if features.get("HotReload", True):
        yield "a half-saved file takes effect at once"


RULES: tuple[Rule, ...] = (
    open_doors,
    wrong_callers,
    shadowed_routes,
    readable_infrastructure,
    changing_underfoot,
)


@pytest.mark.parametrize("rule", RULES)
def test_configuration_keeps_the_rule(rule: Rule, files: Files) -> None:
    assert list(rule(files)) == []


def policy(files: Files, app: str) -> Any:
    (found,) = [p for p in spec(files)["accessControl"]["policies"] if p["appId"] == app]
    return found


def allow(files: Files, app: str, route: str) -> None:
    operation = {"name": route, "httpVerb": ["POST"], "action": "allow"}
    policy(files, app)["operations"] = [*policy(files, app)["operations"], operation]


BROKEN: dict[str, tuple[Rule, Callable[[Files], object]]] = {
    "no identities": (open_doors, lambda f: spec(f)["mtls"].update(enabled=False)),
    "open by default": (
        open_doors,
        lambda f: spec(f)["accessControl"].update(defaultAction="allow"),
    ),
    "caller of everything": (
        open_doors,
        lambda f: policy(f, "catalog").update(defaultAction="allow"),
    ),
    "another trust domain": (
        open_doors,
        lambda f: policy(f, "catalog").update(trustDomain="private"),
    ),
    "route that the caller does not call": (
        wrong_callers,
        lambda f: allow(f, "catalog", "/internal/prices"),
    ),
    "caller without a policy": (
        wrong_callers,
        lambda f: spec(f)["accessControl"]["policies"].remove(policy(f, "payments")),
    ),
    "route that hides others": (shadowed_routes, lambda f: allow(f, "gateway", "/orders")),
    "readable connection strings": (readable_infrastructure, lambda f: spec(f).pop("secrets")),
    "reload while running": (changing_underfoot, lambda f: spec(f).pop("features")),
}


@pytest.mark.parametrize("mistake", BROKEN)
def test_mistake_is_found(mistake: str, files: Files) -> None:
    rule, break_it = BROKEN[mistake]
    break_it(files)
    assert list(rule(files))
