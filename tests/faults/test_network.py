"""Parts that cannot reach each other, and a network that loses, resets and delays."""

import asyncio

import pytest
from faults.network import delayed, group_of, parted, ruled
from faults.trial import Trial
from waybill import ports
from waybill.project import App

pytestmark = pytest.mark.timeout(600)

CUT_SECONDS = 20
BAD_SECONDS = 30


def ends(pair: str, app: App) -> tuple[str, int]:
    """The process on one side, and the port on the other; `app` is the victim where any may be."""
    return {
        "a sidecar and its service": (f"{app.name}-daprd", app.port),
        "a service and its sidecar": (app.name, app.dapr_http_port),
        "a service and the database": (app.name, ports.POSTGRES),
        "a sidecar and the broker": (f"{app.name}-daprd", ports.RABBITMQ_AMQP),
        "gateway and orders": ("gateway-daprd", 5501),
        "orders and catalog": ("orders-daprd", 5506),
        "payments and the provider": ("payments-daprd", ports.PROVIDER),
        "catalog and the state store": ("catalog-daprd", ports.VALKEY),
    }[pair]


PAIRS = [
    "a sidecar and its service",
    "a service and its sidecar",
    "a service and the database",
    "a sidecar and the broker",
    "gateway and orders",
    "orders and catalog",
    "payments and the provider",
    "catalog and the state store",
]
WAYS = {
    "both ways": {"there": True, "back": True},
    "there": {"there": True, "back": False},
    "back": {"there": False, "back": True},
}


@pytest.mark.fault("partition")
@pytest.mark.parametrize("pair", PAIRS)
async def test_a_pair_is_parted(trial: Trial, pair: str) -> None:
    way = trial.random.choice(list(WAYS))
    app = trial.project.app(trial.random.choice(["orders", "inventory", "payments", "tracking"]))
    name, port = ends(pair, app)
    async with trial.under_load():
        with group_of([await trial.pid(name)]):
            async with trial.blow(pair), ruled(parted(port, **WAYS[way])):
                await asyncio.sleep(CUT_SECONDS)  # the fault is its length


LOSS = "meta l4proto tcp numgen random mod 100 < 5 drop"
RESETS = "meta l4proto tcp numgen random mod 1000 < 1 reject with tcp reset"
MOST_SECONDS = 10


@pytest.mark.fault("bad-network")
@pytest.mark.parametrize("fault", ["5 % loss", "0.1 % resets", "200 ms latency"])
async def test_the_network_is_bad(trial: Trial, fault: str) -> None:
    """What is accepted is accepted in time; what is too much is refused and does not pile up."""
    bad = {
        "5 % loss": ruled([LOSS]),
        "0.1 % resets": ruled([RESETS]),
        "200 ms latency": delayed([ports.RABBITMQ_AMQP, ports.PROVIDER, 5501, 5506], 0.2),
    }[fault]
    async with trial.under_load() as run, trial.blow(fault), bad:
        await asyncio.sleep(BAD_SECONDS)  # the fault is its length
    report = await run.report(settle_seconds=0)
    assert report.latencies["order"].p99 < MOST_SECONDS
    assert trial.statuses <= {"503", "504", "no answer"}
