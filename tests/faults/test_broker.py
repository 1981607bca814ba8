"""The broker refuses, misroutes, dies: it is there for speed, and the logs for truth."""

import asyncio
import os
import signal
from collections.abc import Sequence

import pytest
from faults.broker import Broker, queue_of
from faults.events import logged_events, publish
from faults.trial import Trial
from waybill.project import Project
from waybill.waiting import until

pytestmark = pytest.mark.timeout(420)

SWALLOWED = 30
PREFETCH = 200
RESTARTS = 10
ACCEPTED_BEHIND_AN_ALARM = 60
AWAY_SECONDS = 95

RAFT_WITHOUT_SYSTEMS = """
    supervisor:terminate_child(ra_sup, ra_systems_sup),
    supervisor:restart_child(ra_sup, ra_systems_sup).
"""
RAFT_WITHOUT_QUEUE = "ra:stop_server(quorum_queues, {{'waybill_{queue}', node()}})."

FILLING = "filling"
ROUTES = {
    "inventory": "order.created",
    "payments": "stock.reserved",
    "orders": "payment.succeeded",
    "tracking": "order.status_changed",
}


@pytest.mark.quick
@pytest.mark.fault("broker-refuses")
async def test_a_full_queue_refuses_events_and_the_sidecars_call_it_success(trial: Trial) -> None:
    """The consumer stands still until its prefetch is full and its queue at its bound."""
    service = trial.random.choice([name for name in ROUTES if name != "orders"])
    async with trial.under_load() as run:
        pid = await trial.pid(service)
        async with trial.blow("a queue full"), trial.broker.refusing(service):
            os.kill(pid, signal.SIGSTOP)
            try:
                await fill(trial, service)
                await run.accepted_at_least(run.accepted + SWALLOWED)
            finally:
                os.kill(pid, signal.SIGCONT)
    assert trial.blows[0].repairs.get("reconciled", 0) >= SWALLOWED // 2


async def fill(trial: Trial, service: str) -> None:
    """With an event that it has long seen, until more wait than it may be given at once."""
    events = [e for e in await logged_events(trial.project) if e["type"] == ROUTES[service]]
    old = [trial.random.choice(events)]

    async def at_bound() -> bool:
        await publish(trial.project, old, FILLING)
        return await trial.broker.waiting(service) >= 1

    async with trial.broker.bound(service, FILLING):
        await publish(trial.project, PREFETCH * old, FILLING)
        await until(at_bound, seconds=30, every=1)


@pytest.mark.quick
@pytest.mark.fault("broker-refuses")
async def test_an_event_has_no_queue_to_go_to(trial: Trial) -> None:
    service, topic = trial.random.choice(list(ROUTES.items()))
    async with (
        trial.under_load() as run,
        trial.blow("a binding lost"),
        trial.broker.unbound(service, topic),
    ):
        await run.accepted_at_least(run.accepted + SWALLOWED)
    assert trial.blows[0].repairs.get("reconciled", 0) >= SWALLOWED // 2


@pytest.mark.quick
@pytest.mark.fault("broker-killed")
async def test_broker_is_killed_in_mid_publish(trial: Trial) -> None:
    async with trial.under_load():
        await trial.kill("rabbitmq")


@pytest.mark.fault("broker-killed")
async def test_raft_dies_and_leaves_the_node_behind(trial: Trial) -> None:
    """As on a full disk: the node listens, and calls itself well, without a single queue."""
    async with trial.under_load():
        await node_ends_by_itself(trial, "Raft of rabbitmq dead", RAFT_WITHOUT_SYSTEMS)


@pytest.mark.fault("broker-killed")
async def test_a_queue_dies_and_leaves_the_node_behind(trial: Trial) -> None:
    """As on a full disk: Raft is back, a queue is not, and whoever publishes to it is blocked."""
    queue = queue_of(trial.random.choice(list(ROUTES)))
    async with trial.under_load():
        await node_ends_by_itself(trial, "a queue dead", RAFT_WITHOUT_QUEUE.format(queue=queue))


@pytest.mark.fault("broker-killed")
async def test_a_queue_does_not_start_again_and_is_dropped(trial: Trial) -> None:
    """As after a full disk, which may leave a gap in its log. Its consumer declares it anew."""
    queue = queue_of(trial.random.choice(list(ROUTES)))
    async with trial.under_load():
        usual = await consumers(trial.broker)
        pid = await trial.pid("rabbitmq")
        async with trial.blow("a queue that does not start"):
            await trial.broker.command("stop_app")
            spoil(trial.project, queue)
            await trial.broker.command("start_app")
            await trial.returned("rabbitmq", pid)
            await come_back(trial.broker, usual, seconds=90)


def spoil(project: Project, queue: str) -> None:
    """What Raft keeps of a queue cannot be read any more."""
    files = (project.state / "rabbitmq" / "data").glob("*/quorum/*/*/config")
    [config] = [file for file in files if f"'{queue}'" in file.read_text()]
    config.write_text("no term")


async def node_ends_by_itself(trial: Trial, what: str, expression: str) -> None:
    pid = await trial.pid("rabbitmq")
    async with trial.blow(what):
        await trial.broker.command("eval", expression)
        await trial.returned("rabbitmq", pid)


@pytest.mark.timeout(900)
@pytest.mark.fault("broker-restarted")
async def test_broker_is_restarted_ten_times(trial: Trial) -> None:
    async with trial.under_load():
        usual = await consumers(trial.broker)
        for _ in range(RESTARTS):
            async with trial.blow("broker restarted"):
                await trial.broker.command("stop_app")
                await trial.broker.command("start_app")
                await come_back(trial.broker, usual, seconds=90)
            queues = await trial.broker.queues()
            assert all(q["messages_unacknowledged"] <= PREFETCH for q in queues.values())


async def consumers(broker: Broker) -> dict[str, int]:
    return {name: queue["consumers"] for name, queue in (await broker.queues()).items()}


async def come_back(broker: Broker, usual: dict[str, int], seconds: float) -> None:
    """Each queue has as many consumers as before: none is missing, no ghost is left."""

    async def are_there() -> bool:
        return await consumers(broker) == usual

    try:
        await until(are_there, seconds=seconds, every=1)
    except TimeoutError:
        assert await consumers(broker) == usual
        raise  # they came too late


@pytest.mark.fault("broker-alarm")
@pytest.mark.parametrize(
    ("alarm", "end"),
    [
        (["set_vm_memory_high_watermark", "0.00001"], ["set_vm_memory_high_watermark", "0.4"]),
        (["set_disk_free_limit", "900000GB"], ["set_disk_free_limit", "200MB"]),
    ],
    ids=["memory", "disk"],
)
async def test_broker_blocks_publishers(
    trial: Trial, alarm: Sequence[str], end: Sequence[str]
) -> None:
    async with trial.under_load() as run, trial.blow(f"alarm: {alarm[0]}"):
        await trial.broker.command(*alarm)
        try:
            # Until orders takes no more because as many as it allows are under way.
            await run.accepted_at_least(run.accepted + ACCEPTED_BEHIND_AN_ALARM)
        finally:
            await trial.broker.command(*end)
        await until(trial.broker.is_unalarmed, seconds=60, every=1)


@pytest.mark.timeout(900)
@pytest.mark.fault("broker-late")
async def test_broker_is_away_when_sidecars_start(trial: Trial) -> None:
    sidecars = [f"{app.name}-daprd" for app in trial.project.apps]
    async with trial.under_load():
        usual = await consumers(trial.broker)
        async with trial.blow(f"no broker for {AWAY_SECONDS} s at the start of all sidecars"):
            await trial.broker.command("stop_app")
            try:
                for name in sidecars:
                    os.kill(await trial.pid(name), signal.SIGKILL)
                await asyncio.sleep(AWAY_SECONDS)  # the fault is its length
            finally:
                await trial.broker.command("start_app")
            await come_back(trial.broker, usual, seconds=120)
