"""An event that a service consumes reaches it in bulk, from a queue that survives, or its desk."""

from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import PurePath
from typing import Any, TypeAlias

import pytest
from contracts import ALL_EVENTS

Files: TypeAlias = dict[str, list[Any]]
Rule: TypeAlias = Callable[[Files], Iterator[str]]

DESK = "/events/dead-letters"
FOLDER = "dapr/subscriptions"


def by_app(files: Files) -> dict[str, list[Any]]:
    return {PurePath(p).stem: docs for p, docs in files.items() if p.startswith(FOLDER)}


def subscriptions(files: Files) -> Iterator[tuple[str, Any]]:
    """Each subscription to events with the app that its file is named for."""
    for app, documents in by_app(files).items():
        for document in documents:
            if document["spec"]["topic"] != f"{app}.dead-letters":
                yield app, document


def lost_events(files: Files) -> Iterator[str]:
    """Without a dead-letter topic poison is retried for ever; a classic queue has no replicas."""
    for app, document in subscriptions(files):
        spec = document["spec"]
        topic = f"{app} ← {spec['topic']}"
        if spec.get("deadLetterTopic") != f"{app}.dead-letters":
            yield f"{topic}: dead letters go to {spec.get('deadLetterTopic')}"
        if spec.get("metadata", {}).get("queueType") != "quorum":
            yield f"{topic}: not a quorum queue"


def misrouted_events(files: Files) -> Iterator[str]:
    for app, document in subscriptions(files):
        spec = document["spec"]
        if spec["routes"] != {"default": f"/events/{spec['topic']}"}:
            yield f"{app} ← {spec['topic']}: goes to {spec['routes']}"
        if not spec.get("bulkSubscribe", {}).get("enabled"):
            yield f"{app} ← {spec['topic']}: one by one"


def misplaced_subscriptions(files: Files) -> Iterator[str]:
    """One file, one app; a name is taken once, or the sidecar keeps the first only."""
    names = Counter[str]()
    for app, documents in by_app(files).items():
        for document in documents:
            names[document["metadata"]["name"]] += 1
            if document.get("scopes") != [app] or document["spec"]["pubsubname"] != "pubsub":
                yield f"{document['metadata']['name']} is not {app}'s own"
    yield from (f"{name} is defined twice" for name, times in names.items() if times > 1)


def unknown_topics(files: Files) -> Iterator[str]:
    topics = {event.topic for event in ALL_EVENTS}
    for app, document in subscriptions(files):
        if document["spec"]["topic"] not in topics:
            yield f"{app}: no contract defines {document['spec']['topic']}"


def unhandled_topics(files: Files) -> Iterator[str]:
    """A bulk delivery that meets a 404 is acknowledged by the sidecar, and lost."""
    for app, documents in by_app(files).items():
        declared = {d["spec"]["topic"] for d in documents} - {f"{app}.dead-letters"}
        handled = {event.topic for event in import_module(f"{app}.subscriptions").subscriptions}
        if declared != handled:
            yield f"{app}: declared and handled differ by {declared ^ handled}"


def lost_dead_letters(files: Files) -> Iterator[str]:
    """Dead letters need a queue before the first is sent, and must not go round in circles."""
    for app, documents in by_app(files).items():
        topic = f"{app}.dead-letters"
        specs = [d["spec"] for d in documents if d["spec"]["topic"] == topic]
        expected = {
            "pubsubname": "pubsub",
            "topic": topic,
            "routes": {"default": DESK},
            "metadata": {"queueType": "quorum", "rawPayload": "true"},
        }
        if specs != [expected]:
            yield f"{app}: its dead letters are subscribed as {specs}"


RULES: tuple[Rule, ...] = (
    lost_events,
    misrouted_events,
    misplaced_subscriptions,
    unknown_topics,
    unhandled_topics,
    lost_dead_letters,
)


@pytest.mark.parametrize("rule", RULES)
def test_subscriptions_keep_the_rule(rule: Rule, files: Files) -> None:
    assert list(rule(files)) == []


def first(files: Files) -> Any:
    return files[f"{FOLDER}/orders.yaml"][0]


def desk(files: Files) -> Any:
    return files[f"{FOLDER}/orders.yaml"][-1]


BROKEN: dict[str, tuple[Rule, Callable[[Files], object]]] = {
    "no dead-letter topic": (lost_events, lambda f: first(f)["spec"].pop("deadLetterTopic")),
    "another's dead-letter topic": (
        lost_events,
        lambda f: first(f)["spec"].update(deadLetterTopic="payments.dead-letters"),
    ),
    "classic queue": (lost_events, lambda f: first(f)["spec"].pop("metadata")),
    "another topic's route": (
        misrouted_events,
        lambda f: first(f)["spec"].update(routes={"default": "/events/stock.rejected"}),
    ),
    "no bulk": (misrouted_events, lambda f: first(f)["spec"].pop("bulkSubscribe")),
    "another app's scope": (
        misplaced_subscriptions,
        lambda f: first(f).update(scopes=["orders", "payments"]),
    ),
    "no scope": (misplaced_subscriptions, lambda f: first(f).pop("scopes")),
    "unknown broker": (
        misplaced_subscriptions,
        lambda f: first(f)["spec"].update(pubsubname="pubsubs"),
    ),
    "name taken twice": (
        misplaced_subscriptions,
        lambda f: first(f)["metadata"].update(name="orders-dead-letters"),
    ),
    "misspelt topic": (unknown_topics, lambda f: first(f)["spec"].update(topic="stock.reservd")),
    "topic without a handler": (
        unhandled_topics,
        lambda f: first(f)["spec"].update(topic="order.created"),
    ),
    "handler without a topic": (
        unhandled_topics,
        lambda f: f[f"{FOLDER}/orders.yaml"].remove(first(f)),
    ),
    "no queue for dead letters": (
        lost_dead_letters,
        lambda f: f[f"{FOLDER}/orders.yaml"].remove(desk(f)),
    ),
    "dead letters in a circle": (
        lost_dead_letters,
        lambda f: desk(f)["spec"].update(deadLetterTopic="orders.dead-letters"),
    ),
    "dead letters that must be JSON": (
        lost_dead_letters,
        lambda f: desk(f)["spec"]["metadata"].pop("rawPayload"),
    ),
}


@pytest.mark.parametrize("mistake", BROKEN)
def test_mistake_is_found(mistake: str, files: Files) -> None:
    rule, break_it = BROKEN[mistake]
    break_it(files)
    assert list(rule(files))
