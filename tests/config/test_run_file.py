"""`dapr run -f` starts every service once, on its own ports, and its file holds no secret."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from waybill import ports

Files: TypeAlias = dict[str, list[Any]]
Rule: TypeAlias = Callable[[Files], Iterator[str]]

ROOT = Path(__file__).parents[2]
PINNED = ("appPort", "daprHTTPPort", "daprGRPCPort", "daprInternalGRPCPort", "metricsPort")
EPHEMERAL = 32768
TO_REGISTER = {"timeout": 10, "busyTimeout": 5}  # seconds
HEALTH = "/health"
LONGEST_BLOCK = timedelta(seconds=3)
FAILED_CHECKS = 3
SECRET_NAMES = re.compile(r"TOKEN|PASSWORD|SECRET|KEY(?!S|_ALIVE)|CREDENTIAL|ANCHORS")
PASSWORD_IN_URL = re.compile(r"://[^/@]*:[^/@]*@")


def run(files: Files) -> Any:
    return files["run.yaml"][0]


def missing_services(files: Files) -> Iterator[str]:
    services = {path.name for path in (ROOT / "services").iterdir() if path.is_dir()}
    started = Counter(app["appID"] for app in run(files)["apps"])
    yield from (f"{name} is not started once" for name in services if started[name] != 1)
    yield from (f"there is no service {name}" for name in started.keys() - services)


def wrong_commands(files: Files) -> Iterator[str]:
    for app in run(files)["apps"]:
        expected = [f"{app['appID']}.app:app", "--port", str(app.get("appPort"))]
        if app["command"][1:] != expected or app["appDirPath"] != ".":
            yield f"{app['appID']} is started by {app['command']} in {app['appDirPath']}"


def floating_ports(files: Files) -> Iterator[str]:
    """What is not pinned is chosen anew at each start, and may be another's pinned port."""
    for app in run(files)["apps"]:
        for port in PINNED:
            if not 0 < app.get(port, 0) < EPHEMERAL:
                yield f"{app['appID']}: {port} is {app.get(port)}"


def clashing_ports(files: Files) -> Iterator[str]:
    taken = Counter(app[port] for app in run(files)["apps"] for port in PINNED if port in app)
    taken.update(
        port
        for name, port in vars(ports).items()
        if name.isupper() and name != "HOST" and isinstance(port, int)
    )
    yield from (f"{port} is wanted {times} times" for port, times in taken.items() if times > 1)


def secrets_in_the_file(files: Files) -> Iterator[str]:
    for section in [run(files)["common"], *run(files)["apps"]]:
        for name, value in section.get("env", {}).items():
            if SECRET_NAMES.search(name) or PASSWORD_IN_URL.search(value):
                yield f"{name} does not belong in a file"


def foreign_databases(files: Files) -> Iterator[str]:
    """A service's role, database and password file are its own."""
    for app in run(files)["apps"]:
        name, env = app["appID"], app.get("env", {})
        if "DATABASE_URL" not in env:
            continue
        url = f"postgresql+asyncpg://{name}@{ports.HOST}:{ports.POSTGRES}/{name}"
        password_file = f".waybill/secrets/{name}.pgpass"
        if (env["DATABASE_URL"], env.get("PGPASSFILE")) != (url, password_file):
            yield f"{name} uses {env['DATABASE_URL']} with {env.get('PGPASSFILE')}"


def open_interfaces(files: Files) -> Iterator[str]:
    """By default the sidecar's API and uvicorn's proxies trust more than this machine."""
    common = run(files)["common"]
    if common.get("apiListenAddresses") != ports.HOST:
        yield "the sidecars' API listens on every interface"
    if common["env"].get("UVICORN_HOST") != ports.HOST:
        yield "the services listen elsewhere"
    for name, port in (("placement", ports.PLACEMENT), ("scheduler", ports.SCHEDULER)):
        if common.get(f"{name}HostAddress") != f"{ports.HOST}:{port}":
            yield f"{name} is looked for at {common.get(f'{name}HostAddress')}"


def unread_resources(files: Files) -> Iterator[str]:
    """Sidecars do not look into subfolders, and an app's own paths replace the common ones."""
    common = run(files)["common"]
    folders = {str(Path(path).parent) for path in files if path != "run.yaml"}
    if set(common.get("resourcesPaths", [])) != folders:
        yield f"{folders} hold resources, {common.get('resourcesPaths')} are read"
    if common.get("configFilePath") != "dapr/config.yaml":
        yield f"the configuration is read from {common.get('configFilePath')}"
    for app in run(files)["apps"]:
        if {"resourcesPaths", "resourcesPath", "configFilePath"} & app.keys():
            yield f"{app['appID']} reads other resources"


def hurried_names(files: Files) -> Iterator[str]:
    """All sidecars start at once; one that cannot register in time runs on, and nobody finds it."""
    given = name_resolution(files)["configuration"]
    for setting, least in TO_REGISTER.items():
        if int(given.get(setting, "1s").removesuffix("s")) < least:
            yield f"{setting} of the name resolution is {given.get(setting)}"


def name_resolution(files: Files) -> Any:
    return files["dapr/config.yaml"][0]["spec"]["nameResolution"]


def crashing_cli(files: Files) -> Iterator[str]:
    """The CLI panics when it merges the common environment into an app that has none."""
    for app in run(files)["apps"]:
        if run(files)["common"].get("env") and not app.get("env"):
            yield f"{app['appID']} has no environment to merge into"


def parked_messages(files: Files) -> Iterator[str]:
    """An unhealthy app is unsubscribed, and what was prefetched for it is never delivered."""
    subscribers = {app for s in subscriptions(files) for app in s["scopes"]}
    for section in [run(files)["common"], *run(files)["apps"]]:
        name = section.get("appID", "common")
        if section.get("enableAppHealthCheck") and name in {"common", *subscribers}:
            yield f"{name} has its health checked"


def subscriptions(files: Files) -> list[Any]:
    return [d for docs in files.values() for d in docs if d.get("kind") == "Subscription"]


def hasty_health_checks(files: Files) -> Iterator[str]:
    """A busy event loop is not a dead one: it may block for seconds, and more than once."""
    for app in run(files)["apps"]:
        if not app.get("enableAppHealthCheck"):
            continue
        timeout = timedelta(milliseconds=app.get("appHealthProbeTimeout", 500))
        interval = timedelta(seconds=app.get("appHealthProbeInterval", 5))
        if not LONGEST_BLOCK < timeout <= interval:
            yield f"{app['appID']} is given {timeout} every {interval}"
        if app.get("appHealthThreshold", 3) < FAILED_CHECKS or app["appHealthCheckPath"] != HEALTH:
            yield f"{app['appID']} is dead after one bad moment, or asked something else"


def refusals_in_plain_text(files: Files) -> Iterator[str]:
    """Past this limit uvicorn answers by itself, without a Retry-After; the chassis has a bound."""
    for section in [run(files)["common"], *run(files)["apps"]]:
        if "UVICORN_LIMIT_CONCURRENCY" in section.get("env", {}):
            yield f"{section.get('appID', 'common')} lets uvicorn refuse"


def short_connections(files: Files) -> Iterator[str]:
    """A server that closes idle connections before its client (90 s) breaks requests."""
    if int(run(files)["common"]["env"].get("UVICORN_TIMEOUT_KEEP_ALIVE", 5)) <= 90:
        yield "idle connections are closed under the sidecar's next request"


RULES: tuple[Rule, ...] = (
    missing_services,
    wrong_commands,
    floating_ports,
    clashing_ports,
    secrets_in_the_file,
    foreign_databases,
    open_interfaces,
    unread_resources,
    hurried_names,
    crashing_cli,
    parked_messages,
    hasty_health_checks,
    refusals_in_plain_text,
    short_connections,
)


@pytest.mark.parametrize("rule", RULES)
def test_run_file_keeps_the_rule(rule: Rule, files: Files) -> None:
    assert list(rule(files)) == []


def common(files: Files) -> Any:
    return run(files)["common"]


def orders(files: Files) -> Any:
    return run(files)["apps"][1]


def catalog(files: Files) -> Any:
    return next(app for app in run(files)["apps"] if app["appID"] == "catalog")


BROKEN: dict[str, tuple[Rule, Callable[[Files], object]]] = {
    "forgotten service": (missing_services, lambda f: run(f)["apps"].pop()),
    "service that does not exist": (missing_services, lambda f: orders(f).update(appID="order")),
    "another's module": (
        wrong_commands,
        lambda f: orders(f).update(command=["uvicorn", "users.app:app", "--port", "8001"]),
    ),
    "another's port": (wrong_commands, lambda f: orders(f).update(appPort=8002)),
    "random port": (floating_ports, lambda f: orders(f).pop("metricsPort")),
    "ephemeral port": (floating_ports, lambda f: orders(f).update(daprHTTPPort=33501)),
    "port of another sidecar": (clashing_ports, lambda f: orders(f).update(metricsPort=9502)),
    "port of the broker": (
        clashing_ports,
        lambda f: orders(f).update(daprGRPCPort=ports.RABBITMQ_AMQP),
    ),
    "token": (secrets_in_the_file, lambda f: common(f)["env"].update(APP_API_TOKEN="x")),
    "password": (
        secrets_in_the_file,
        lambda f: orders(f)["env"].update(DATABASE_URL="postgresql://orders:x@127.0.0.1/orders"),
    ),
    "another's database": (
        foreign_databases,
        lambda f: orders(f)["env"].update(
            DATABASE_URL="postgresql+asyncpg://orders@127.0.0.1:15432/payments"
        ),
    ),
    "sidecars open to the network": (
        open_interfaces,
        lambda f: common(f).pop("apiListenAddresses"),
    ),
    "services open to the network": (
        open_interfaces,
        lambda f: common(f)["env"].update(UVICORN_HOST="0.0.0.0"),
    ),
    "no scheduler": (open_interfaces, lambda f: common(f).pop("schedulerHostAddress")),
    "unread subscriptions": (unread_resources, lambda f: common(f)["resourcesPaths"].pop()),
    "resources of one app": (
        unread_resources,
        lambda f: orders(f).update(resourcesPaths=["components"]),
    ),
    "a second to register": (
        hurried_names,
        lambda f: name_resolution(f)["configuration"].pop("timeout"),
    ),
    "app without an environment": (crashing_cli, lambda f: orders(f).pop("env")),
    "health check": (parked_messages, lambda f: common(f).update(enableAppHealthCheck=True)),
    "health check of a subscriber": (
        parked_messages,
        lambda f: orders(f).update(enableAppHealthCheck=True),
    ),
    "health check with its defaults": (
        hasty_health_checks,
        lambda f: catalog(f).pop("appHealthProbeTimeout"),
    ),
    "health check that is late for the next": (
        hasty_health_checks,
        lambda f: catalog(f).update(appHealthProbeTimeout=6000),
    ),
    "health check that must not fail once": (
        hasty_health_checks,
        lambda f: catalog(f).update(appHealthThreshold=1),
    ),
    "health check that asks the sidecar back": (
        hasty_health_checks,
        lambda f: catalog(f).update(appHealthCheckPath="/ready"),
    ),
    "limit of the server": (
        refusals_in_plain_text,
        lambda f: orders(f)["env"].update(UVICORN_LIMIT_CONCURRENCY="2000"),
    ),
    "short keep-alive": (
        short_connections,
        lambda f: common(f)["env"].pop("UVICORN_TIMEOUT_KEEP_ALIVE"),
    ),
}


@pytest.mark.parametrize("mistake", BROKEN)
def test_mistake_is_found(mistake: str, files: Files) -> None:
    rule, break_it = BROKEN[mistake]
    break_it(files)
    assert list(rule(files))
