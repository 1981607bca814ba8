"""Two random faults a minute, for an hour."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import pytest
from faults import network
from faults.trial import Trial
from waybill import control, ports

PAUSE_SECONDS = 30


@pytest.mark.once
@pytest.mark.timeout(3 * 60 * 60)
@pytest.mark.fault("random-pairs")
async def test_two_random_faults_strike_every_minute(
    trial: Trial, request: pytest.FixtureRequest
) -> None:
    """All that hurts the platform at all hurts it again; one fault waits for the one before."""
    loop = asyncio.get_running_loop()
    async with trial.under_load():
        end = loop.time() + 60 * float(request.config.getoption("--soak-minutes") or 0)
        while loop.time() < end:
            next_at = loop.time() + PAUSE_SECONDS
            await trial.random.choice(FAULTS)(trial)
            await asyncio.sleep(max(0, next_at - loop.time()))


async def any_process(trial: Trial) -> str:
    status = await control.status(trial.project)
    assert status
    spared = {"dapr-run", "epmd"}
    return trial.random.choice(sorted(p.name for p in status.processes if p.name not in spared))


async def death(trial: Trial) -> None:
    await trial.kill(await any_process(trial))


async def standstill(trial: Trial) -> None:
    name = await any_process(trial)
    pid = await trial.pid(name)
    async with trial.blow(f"{name} frozen"):
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(trial.random.uniform(2, 10))
        finally:
            os.kill(pid, signal.SIGCONT)


async def lost_binding(trial: Trial) -> None:
    unbound = trial.broker.unbound("inventory", "order.created")
    async with trial.blow("order.created unbound"), unbound:
        await asyncio.sleep(5)


async def loss(trial: Trial) -> None:
    rule = "meta l4proto tcp numgen random mod 100 < 5 drop"
    async with trial.blow("5 % of packets lost"), network.ruled([rule]):
        await asyncio.sleep(10)


async def cut(trial: Trial) -> None:
    port = trial.random.choice([ports.RABBITMQ_AMQP, ports.POSTGRES, ports.VALKEY, ports.PROVIDER])
    async with trial.blow(f"port {port} cut"), network.ruled([f"tcp dport {port} drop"]):
        await asyncio.sleep(trial.random.uniform(2, 10))


FAULTS: list[Callable[[Trial], Awaitable[None]]] = [
    death,
    death,
    death,
    standstill,
    lost_binding,
    loss,
    cut,
]
