"""The database server dies, and with it all that the nine services stand on."""

import asyncio
import signal
from contextlib import suppress

import aiohttp
import psutil
import pytest
from faults.trial import Trial
from waybill.shop import Person, Refused
from waybill.waiting import until

pytestmark = pytest.mark.timeout(420)

FULL_SECONDS = 20
SHELF = [{"sku": "SKU-0001", "quantity": 1}]


@pytest.mark.quick
@pytest.mark.fault("database-killed")
async def test_database_is_killed(trial: Trial) -> None:
    """Whoever orders meanwhile is told to come again, and when."""
    customer = await trial.shop.register("Turned Away")
    refusals: list[Refused] = []
    async with trial.under_load():
        asking = asyncio.create_task(keep_asking(trial, customer, refusals))
        await trial.kill("postgres")
        asking.cancel()
        await asyncio.wait([asking])
    assert refusals
    assert {refusal.status for refusal in refusals} == {503}
    assert all(refusal.retry_after >= 1 for refusal in refusals)


async def keep_asking(trial: Trial, customer: Person, refusals: list[Refused]) -> None:
    while True:
        try:
            await trial.shop.order(customer, SHELF)
        except Refused as refusal:
            refusals.append(refusal)
        except (aiohttp.ClientError, TimeoutError):
            pass
        await asyncio.sleep(0.2)  # a customer's pause


@pytest.mark.fault("database-killed")
async def test_database_is_stopped_without_a_checkpoint(trial: Trial) -> None:
    """As `pg_ctl stop -m immediate` does it: its next start begins with recovery."""
    async with trial.under_load():
        await trial.kill("postgres", "postgres stopped at once", signal.SIGQUIT)


@pytest.mark.timeout(600)
@pytest.mark.fault("power-loss")
async def test_power_is_lost_under_database_and_broker(trial: Trial) -> None:
    """Whatever they had written and not synced is gone when they come back."""
    disk = trial.platform.disk
    assert disk, "run it by `make faults`, which gives the data a disk of their own"
    victims = ["postgres", "rabbitmq"]
    async with trial.under_load():
        pids = [await trial.pid(name) for name in victims]
        async with trial.blow("power lost"):
            disk.cut_power()
            for process in [one for pid in pids for one in family(pid)]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            await disk.remount()
            await asyncio.gather(*map(trial.returned, victims, pids))


def family(pid: int) -> list[psutil.Process]:
    """A server and its children, which without their parent may live on and hold the disk."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


@pytest.mark.timeout(600)
@pytest.mark.fault("disk-full")
async def test_disk_of_the_database_and_the_broker_is_full(trial: Trial) -> None:
    disk = trial.platform.disk
    assert disk, "run it by `make faults`, which gives the data a disk of their own"
    customer = await trial.shop.register("Full Disk")
    refusals: list[Refused] = []
    async with trial.under_load(), trial.blow("disk full"):
        with disk.full() as fill_up:
            asking = asyncio.create_task(keep_asking(trial, customer, refusals))
            for _ in range(FULL_SECONDS):
                await asyncio.sleep(1)  # the fault is its length
                fill_up()
            asking.cancel()
            await asyncio.wait([asking])
        await trial.up("postgres")
        await trial.up("rabbitmq")
        await until(trial.broker.is_unalarmed, seconds=90, every=1)
    assert refusals
    assert {refusal.status for refusal in refusals} <= {503, 504}
