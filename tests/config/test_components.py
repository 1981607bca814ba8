"""Components lose nothing, tell no secret, and are there for those that need them only."""

import re
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
from chassis.sidecar import DEAD_LETTERS, PUBSUB, TOPIC
from contracts import ALL_EVENTS
from waybill.runtime import go_build

Files: TypeAlias = dict[str, list[Any]]
Rule: TypeAlias = Callable[[Files], Iterator[str]]

LOSSLESS = {
    "durable": "true",
    "deletedWhenUnused": "false",
    "deliveryMode": "2",
    "publisherConfirm": "false",  # it cannot tell of a loss, and may hang for ever
    "autoAck": "false",
    "requeueInFailure": "true",
    "concurrencyMode": "parallel",
    "exchangeKind": "topic",  # of both, for they declare the same exchanges
}
LARGEST_PREFETCH = 255  # the component keeps it in a byte
REGISTRATION = re.compile(r'^\s*(\w+)\.DefaultRegistry\.Register\w+\(.*, "(.+)"\)', re.MULTILINE)
STABLE = {"configuration.redis", "pubsub.rabbitmq", "secretstores.local.file", "state.redis"}
"""Of those in use, what Dapr 1.18 compiles with the tag of that name."""
CREDENTIALS = {"authorization", "cookie", "x-api-key"}


def documents(files: Files, kind: str) -> list[Any]:
    return [d for docs in files.values() for d in docs if d.get("kind") == kind]


def settings(files: Files, name: str) -> dict[str, Any]:
    """A component's metadata as a mapping; a secret is its reference."""
    (found,) = [c for c in documents(files, "Component") if c["metadata"]["name"] == name]
    return {item["name"]: item.get("value", item) for item in found["spec"]["metadata"]}


def apps(files: Files) -> set[str]:
    return {app["appID"] for app in files["run.yaml"][0]["apps"]}


def unscoped(files: Files) -> Iterator[str]:
    for document in [d for path, docs in files.items() if path != "run.yaml" for d in docs]:
        if document["kind"] == "Configuration":
            continue
        scopes = set(document.get("scopes", []))
        if not scopes or not scopes <= apps(files):
            yield f"{document['metadata']['name']} is scoped to {scopes or 'everybody'}"


def lossy(files: Files) -> Iterator[str]:
    for component in (PUBSUB, DEAD_LETTERS):
        given = settings(files, component)
        for name, value in LOSSLESS.items():
            if given.get(name) != value:
                yield f"{component}: {name} is {given.get(name)}"


def prefetch_that_starves_batches(files: Files) -> Iterator[str]:
    """A batch fills only with what is prefetched; without a limit one sidecar takes the queue."""
    batches = {
        PUBSUB: [s["spec"]["bulkSubscribe"] for s in documents(files, "Subscription")],
        DEAD_LETTERS: [],
    }
    for component, bulks in batches.items():
        largest = max((bulk["maxMessagesCount"] for bulk in bulks), default=1)
        prefetch = int(settings(files, component).get("prefetchCount", 0))
        if not largest <= prefetch <= LARGEST_PREFETCH:
            yield f"{component}: {largest} a batch, {prefetch} prefetched"


def unreadable_secrets(files: Files) -> Iterator[str]:
    """A reference needs a store, and the store must be there for the same apps."""
    stores = {
        c["metadata"]["name"]: set(c["scopes"])
        for c in documents(files, "Component")
        if c["spec"]["type"].startswith("secretstores.")
    }
    for owner in [*documents(files, "Component"), *documents(files, "HTTPEndpoint")]:
        if "secretKeyRef" not in str(owner["spec"]):
            continue
        store = owner.get("auth", {}).get("secretStore")
        if not set(owner["scopes"]) <= stores.get(store, set()):
            yield f"{owner['metadata']['name']} cannot read {store}"


def credentials_in_headers(files: Files) -> Iterator[str]:
    for endpoint in documents(files, "HTTPEndpoint"):
        for header in endpoint["spec"]["headers"]:
            if header["name"].lower() in CREDENTIALS and "secretKeyRef" not in header:
                yield f"{header['name']} stands in plain text"


def wrong_publishers(files: Files) -> Iterator[str]:
    """Producers publish events, a subscriber its dead letters; to the desks' component, nobody."""
    producers = {event.__module__.rpartition(".")[2] for event in ALL_EVENTS}
    expected = {app: {TOPIC} for app in producers}
    for app in {app for s in documents(files, "Subscription") for app in s["scopes"]}:
        expected[app] = expected.get(app, set()) | {f"{app}.dead-letters"}
    yield from wrong_grants(files, PUBSUB, expected)
    yield from wrong_grants(files, DEAD_LETTERS, {})


def wrong_grants(files: Files, component: str, expected: dict[str, set[str]]) -> Iterator[str]:
    granted = publishing_scopes(files, component)
    (document,) = files[f"components/{component}.yaml"]
    for app in {*granted, *expected, *document["scopes"]}:
        if expected.get(app, set()) != granted.get(app):
            yield f"{component}: {app} may publish {granted.get(app, 'everything')}"


def publishing_scopes(files: Files, component: str) -> dict[str, set[str]]:
    """As daprd reads them: an app with nothing behind its name may publish nothing."""
    lines: str = settings(files, component)["publishingScopes"]
    pairs = [line.split("=") for line in lines.replace(" ", "").split(";")]
    return {app: set(filter(None, topics.split(","))) for app, topics in pairs}


def not_compiled(files: Files) -> Iterator[str]:
    """The sidecar that `waybill` builds has Dapr's stable components, and what it names."""
    used = {component["spec"]["type"] for component in documents(files, "Component")}
    for configuration in documents(files, "Configuration"):
        used.add(f"nameresolution.{configuration['spec']['nameResolution']['component']}")
    source = go_build.DAPR / "main.go"
    added = {f"{kind}.{name}" for kind, name in REGISTRATION.findall(source.read_text())}
    yield from (f"{component} is missing in {source}" for component in used - STABLE - added)


RULES: tuple[Rule, ...] = (
    unscoped,
    lossy,
    prefetch_that_starves_batches,
    unreadable_secrets,
    credentials_in_headers,
    wrong_publishers,
    not_compiled,
)


@pytest.mark.parametrize("rule", RULES)
def test_components_keep_the_rule(rule: Rule, files: Files) -> None:
    assert list(rule(files)) == []


def entry(files: Files, name: str, component: str = PUBSUB) -> Any:
    metadata = files[f"components/{component}.yaml"][0]["spec"]["metadata"]
    (found,) = [item for item in metadata if item["name"] == name]
    return found


def drop_setting(name: str, component: str = PUBSUB) -> Callable[[Files], object]:
    return lambda f: f[f"components/{component}.yaml"][0]["spec"]["metadata"].remove(
        entry(f, name, component)
    )


def grant(old: str, new: str, component: str = PUBSUB) -> Callable[[Files], object]:
    def change(files: Files) -> None:
        scopes = entry(files, "publishingScopes", component)
        scopes["value"] = scopes["value"].replace(old, new)

    return change


BROKEN: dict[str, tuple[Rule, Callable[[Files], object]]] = {
    "component that no sidecar has": (
        not_compiled,
        lambda f: f["components/email.yaml"][0]["spec"].update(type="bindings.kafka"),
    ),
    "name resolution that no sidecar has": (
        not_compiled,
        lambda f: f["dapr/config.yaml"][0]["spec"]["nameResolution"].update(component="consul"),
    ),
    "component for everybody": (unscoped, lambda f: f["components/email.yaml"][0].pop("scopes")),
    "component for an unknown app": (
        unscoped,
        lambda f: f["components/email.yaml"][0].update(scopes=["notification"]),
    ),
    **{
        f"default {name} of {component}": (lossy, drop_setting(name, component))
        for name in LOSSLESS
        for component in (PUBSUB, DEAD_LETTERS)
    },
    "messages kept in memory only": (lossy, lambda f: entry(f, "deliveryMode").update(value="1")),
    "queue that goes with its consumer": (
        lossy,
        lambda f: entry(f, "deletedWhenUnused").update(value="true"),
    ),
    "unlimited prefetch": (prefetch_that_starves_batches, drop_setting("prefetchCount")),
    "unlimited prefetch of dead letters": (
        prefetch_that_starves_batches,
        drop_setting("prefetchCount", DEAD_LETTERS),
    ),
    "prefetch below a batch": (
        prefetch_that_starves_batches,
        lambda f: entry(f, "prefetchCount").update(value="50"),
    ),
    "prefetch above a byte": (
        prefetch_that_starves_batches,
        lambda f: entry(f, "prefetchCount").update(value="256"),
    ),
    "secrets without a store": (
        unreadable_secrets,
        lambda f: f["components/email.yaml"][0].pop("auth"),
    ),
    "store out of reach": (
        unreadable_secrets,
        lambda f: f["components/secretstore.yaml"][0]["scopes"].remove("payments"),
    ),
    "key in plain text": (
        credentials_in_headers,
        lambda f: f["components/payment-provider.yaml"][0]["spec"].update(
            headers=[{"name": "Authorization", "value": "Bearer sk_live_1"}]
        ),
    ),
    "publisher without events": (
        wrong_publishers,
        grant("dashboard=", "dashboard=events,"),
    ),
    "publisher of another's dead letters": (
        wrong_publishers,
        grant("orders.dead-letters", "orders.dead-letters,payments.dead-letters"),
    ),
    "dead letters that may not be published": (
        wrong_publishers,
        grant(",orders.dead-letters", ""),
    ),
    "publisher of everything": (wrong_publishers, grant("catalog=events;", "")),
    "way round the publishing scopes": (
        wrong_publishers,
        grant("orders=;", "", DEAD_LETTERS),
    ),
    "publisher at the edge": (
        wrong_publishers,
        lambda f: f["components/pubsub.yaml"][0]["scopes"].append("gateway"),
    ),
}


@pytest.mark.parametrize("mistake", BROKEN)
def test_mistake_is_found(mistake: str, files: Files) -> None:
    rule, break_it = BROKEN[mistake]
    break_it(files)
    assert list(rule(files))
