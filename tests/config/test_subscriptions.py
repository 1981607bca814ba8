"""The events that a service consumes reach it in bulk, by one queue that survives, or its desk."""

from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import PurePath
from typing import Any, TypeAlias

import pytest
from chassis.sidecar import DEAD_LETTERS, PUBSUB, TOPIC
from contracts import ALL_EVENTS

Files: TypeAlias = dict[str, list[Any]]
Rule: TypeAlias = Callable[[Files], Iterator[str]]

FOLDER = "dapr/subscriptions"


def subscriptions(files: Files) -> Iterator[tuple[str, Any]]:
    """Each subscription with the app that its file is named for."""
    for path, documents in files.items():
        if path.startswith(FOLDER):
            yield from ((PurePath(path).stem, document) for document in documents)


def routing_keys(document: Any) -> set[str]:
    """As the component splits them: what is round a comma belongs to a key."""
    return set(document["spec"].get("metadata", {}).get("routingKey", "").split(","))


def handled_types(app: str) -> set[str]:
    if find_spec(f"{app}.subscriptions") is None:
        return set()
    return {event.topic for event in import_module(f"{app}.subscriptions").subscriptions}


def lost_events(files: Files) -> Iterator[str]:
    """Without a dead-letter topic poison is retried for ever; a classic queue has no replicas."""
    for app, document in subscriptions(files):
        spec = document["spec"]
        if spec.get("deadLetterTopic") != f"{app}.dead-letters":
            yield f"{app}: dead letters go to {spec.get('deadLetterTopic')}"
        if spec.get("metadata", {}).get("queueType") != "quorum":
            yield f"{app}: not a quorum queue"


def misrouted_events(files: Files) -> Iterator[str]:
    for app, document in subscriptions(files):
        spec = document["spec"]
        if (spec["pubsubname"], spec["topic"]) != (PUBSUB, TOPIC):
            yield f"{app} ← {spec['topic']} of {spec['pubsubname']}: nobody publishes there"
        if spec["routes"] != {"default": "/events"}:
            yield f"{app}: events go to {spec['routes']}"
        if not spec.get("bulkSubscribe", {}).get("enabled"):
            yield f"{app}: one by one"


def misplaced_subscriptions(files: Files) -> Iterator[str]:
    for app, document in subscriptions(files):
        if document.get("scopes") != [app]:
            yield f"{app}'s subscription is for {document.get('scopes', 'everybody')}"


def racing_consumers(files: Files) -> Iterator[str]:
    """Of two subscriptions on one component, either may get nothing once the broker was away.

    They share a channel, and after a reconnect the broker counts consumers that nobody reads
    (https://github.com/dapr/components-contrib/issues/4540).
    """
    of_the_chassis = {app: DEAD_LETTERS for app, _ in subscriptions(files)}
    taken = Counter(of_the_chassis.items())
    for _, document in subscriptions(files):
        taken.update((app, document["spec"]["pubsubname"]) for app in document.get("scopes", []))
    for (app, component), times in taken.items():
        if times > 1:
            yield f"{app} subscribes {times} times to {component}"


def unknown_types(files: Files) -> Iterator[str]:
    known = {event.topic for event in ALL_EVENTS}
    for app, document in subscriptions(files):
        yield from (f"{app}: no contract has {key!r}" for key in routing_keys(document) - known)


def unhandled_types(files: Files) -> Iterator[str]:
    """What is not bound never arrives; what is not handled is a dead letter."""
    bound = {app: routing_keys(document) for app, document in subscriptions(files)}
    for app in [app["appID"] for app in files["run.yaml"][0]["apps"]]:
        if difference := bound.get(app, set()) ^ handled_types(app):
            yield f"{app}: bound and handled differ by {difference}"


def lost_dead_letters(files: Files) -> Iterator[str]:
    """An exchange without a queue drops what comes, and the chassis needs the component for it."""
    desks = set(files["components/dead-letters.yaml"][0]["scopes"])
    for app in desks ^ {app for app, _ in subscriptions(files)}:
        yield f"{app} has a desk without events, or events without a desk"


RULES: tuple[Rule, ...] = (
    lost_events,
    misrouted_events,
    misplaced_subscriptions,
    racing_consumers,
    unknown_types,
    unhandled_types,
    lost_dead_letters,
)


@pytest.mark.parametrize("rule", RULES)
def test_subscriptions_keep_the_rule(rule: Rule, files: Files) -> None:
    assert list(rule(files)) == []


def orders(files: Files) -> Any:
    return files[f"{FOLDER}/orders.yaml"][0]


def second(files: Files, component: str) -> None:
    spec = {**orders(files)["spec"], "pubsubname": component}
    files[f"{FOLDER}/orders.yaml"].append({**orders(files), "spec": spec})


def bind(files: Files, change: Callable[[str], str]) -> None:
    metadata = orders(files)["spec"]["metadata"]
    metadata["routingKey"] = change(metadata["routingKey"])


BROKEN: dict[str, tuple[Rule, Callable[[Files], object]]] = {
    "no dead-letter topic": (lost_events, lambda f: orders(f)["spec"].pop("deadLetterTopic")),
    "another's dead-letter topic": (
        lost_events,
        lambda f: orders(f)["spec"].update(deadLetterTopic="payments.dead-letters"),
    ),
    "classic queue": (lost_events, lambda f: orders(f)["spec"]["metadata"].pop("queueType")),
    "another route": (
        misrouted_events,
        lambda f: orders(f)["spec"].update(routes={"default": "/events/stock.rejected"}),
    ),
    "another topic": (misrouted_events, lambda f: orders(f)["spec"].update(topic="order.created")),
    "unknown broker": (misrouted_events, lambda f: orders(f)["spec"].update(pubsubname="pubsubs")),
    "no bulk": (misrouted_events, lambda f: orders(f)["spec"].pop("bulkSubscribe")),
    "another app's scope": (
        misplaced_subscriptions,
        lambda f: orders(f).update(scopes=["orders", "payments"]),
    ),
    "no scope": (misplaced_subscriptions, lambda f: orders(f).pop("scopes")),
    "two subscriptions to events": (racing_consumers, lambda f: second(f, "pubsub")),
    "dead letters subscribed to twice": (racing_consumers, lambda f: second(f, "dead-letters")),
    "misspelt type": (
        unknown_types,
        lambda f: bind(f, lambda keys: keys.replace("stock.reserved", "stock.reservd")),
    ),
    "space after a comma": (
        unknown_types,
        lambda f: bind(f, lambda keys: keys.replace(",", ", ")),
    ),
    "no types": (unknown_types, lambda f: orders(f)["spec"]["metadata"].pop("routingKey")),
    "type without a handler": (
        unhandled_types,
        lambda f: bind(f, lambda keys: f"{keys},order.created"),
    ),
    "handler without its type": (
        unhandled_types,
        lambda f: bind(f, lambda keys: keys.replace(",product.updated", "")),
    ),
    "handlers without a subscription": (
        unhandled_types,
        lambda f: f.pop(f"{FOLDER}/orders.yaml"),
    ),
    "events without a desk": (
        lost_dead_letters,
        lambda f: f["components/dead-letters.yaml"][0]["scopes"].remove("orders"),
    ),
}


@pytest.mark.parametrize("mistake", BROKEN)
def test_mistake_is_found(mistake: str, files: Files) -> None:
    rule, break_it = BROKEN[mistake]
    break_it(files)
    assert list(rule(files))
