"""A consumer with too little of the machine: its queue waits, and its memory stays bounded."""

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from faults.trial import Trial

pytestmark = pytest.mark.timeout(600)

CONTROLLERS = Path("/sys/fs/cgroup")
PERIOD_US = 100_000
SHARE = 0.05
SLOW_SECONDS = 30
MOST_BYTES = 300 * 2**20


@pytest.mark.fault("slow-consumer")
async def test_a_consumer_gets_a_twentieth_of_a_processor_and_little_memory(trial: Trial) -> None:
    name = trial.random.choice(["inventory", "orders", "tracking", "dashboard"])
    pids = [await trial.pid(name), await trial.pid(f"{name}-daprd")]
    async with trial.under_load(), trial.blow("a slow consumer"):
        with limited(pids):
            await asyncio.sleep(SLOW_SECONDS)  # the fault is its length
            assert [await trial.pid(name), await trial.pid(f"{name}-daprd")] == pids
            resident = [psutil.Process(pid).memory_info().rss for pid in pids]
    assert max(resident) < MOST_BYTES


@contextmanager
def limited(pids: Sequence[int]) -> Generator[None]:
    name = f"waybill-faults-{uuid4()}"  # the hierarchies are the machine's
    cpu, memory = CONTROLLERS / "cpu" / name, CONTROLLERS / "memory" / name
    groups = (cpu, memory)
    for group in groups:
        group.mkdir()
    (cpu / "cpu.cfs_period_us").write_text(str(PERIOD_US))
    (cpu / "cpu.cfs_quota_us").write_text(str(round(SHARE * PERIOD_US)))
    (memory / "memory.limit_in_bytes").write_text(str(MOST_BYTES))
    move(pids, groups)
    try:
        yield
    finally:
        for group in groups:
            left = [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
            move(left, [group.parent])
            group.rmdir()


def move(pids: Sequence[int], groups: Sequence[Path]) -> None:
    for pid in pids:
        for group in groups:
            (group / "cgroup.procs").write_text(str(pid))
