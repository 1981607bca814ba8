"""A backup of the platform at work becomes a second platform, which ends what was begun."""

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from waybill.backup.taking import take
from waybill.parts import unprivileged
from waybill.progress import Board
from waybill.project import Project
from waybill.shop import Json, Person, Refused, Shop
from waybill.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

BUYERS = 4
EACH_CARD = 10
SECONDS = 480

# The ports are those of the first platform, and the Dapr CLI looks for its likes among all
# processes: so the second one gets a network and a process table of its own. What it starts goes
# when the shell ends.
APART = ("unshare", "--net", "--pid", "--fork", "--mount-proc", "sh", "-ec")
SECOND_LIFE = """
    ip link set lo up
    {python} -m waybill restore {archive} >&2
    {python} -m waybill up --detach >&2
    {python} -m waybill verify --json --wait 180 || true
    {python} -c '{changed}'
    {python} -m waybill clean >&2
"""
CHANGED = """
import asyncio
from waybill import project
from waybill.verify.sources import take_snapshot
print(max(order.changed_at for order in asyncio.run(take_snapshot(project.find())).orders))
"""


def require_namespaces() -> None:
    if subprocess.run([*APART, "ip link set lo up"], check=False, capture_output=True).returncode:
        pytest.skip("needs root and unshare(1): a second platform wants the ports of the first")


async def test_a_restored_platform_ends_what_was_under_way(
    platform: Project, shop: Shop, tmp_path: Path
) -> None:
    require_namespaces()
    path = tmp_path / "backup.tar.gz"
    customer = await shop.register("Eve Backup")
    async with buying(shop, customer) as accepted:
        await until(lambda: is_busy(accepted), seconds=120)
        known = len(accepted)
        await asyncio.to_thread(take, platform, path, Board())

    taken = datetime.now(UTC)
    verdicts, last_change = await second_life(platform, path)
    assert last_change > taken, "nothing was under way"
    assert verdicts["I1"]["checked"] >= known
    assert {name: v for name, v in verdicts.items() if v["violations"] or v["unchecked"]} == {}


@asynccontextmanager
async def buying(shop: Shop, customer: Person) -> AsyncGenerator[list[Json]]:
    """Orders are placed as long as the block runs, with cards of both kinds of success; what was
    accepted so far."""
    accepted: list[Json] = []
    closing = asyncio.Event()

    async def buy(card: str) -> None:
        while not closing.is_set():
            items = [{"sku": "SKU-0001", "quantity": 1}]
            try:
                accepted.append(await shop.order(customer, items, card))
            except Refused as refusal:
                if refusal.status != HTTPStatus.SERVICE_UNAVAILABLE:
                    raise
                with suppress(TimeoutError):  # more than it gets done: it says when to come back
                    await asyncio.wait_for(closing.wait(), refusal.retry_after)

    async with asyncio.TaskGroup() as group:
        for number in range(BUYERS):
            card = "pm_card_timeout" if number == 0 else "pm_card_ok"
            group.create_task(buy(card))
        try:
            yield accepted
        finally:
            closing.set()


async def is_busy(accepted: list[Json]) -> bool:
    return len(accepted) >= BUYERS * EACH_CARD


async def second_life(here: Project, path: Path) -> tuple[dict[str, Any], datetime]:
    """What `waybill verify` says of the copy, in a checkout and namespaces of its own, and when an
    order last changed in it."""
    root = path.parent / "second"
    root.mkdir()
    for original in here.root.iterdir():
        if original.name == "run.yaml":  # the directory that it lies in is where everything runs
            shutil.copy(original, root)
        elif not original.name.startswith((".waybill", ".dapr")):
            (root / original.name).symlink_to(original)
    life = SECOND_LIFE.format(python=sys.executable, archive=path, changed=CHANGED)
    process = await asyncio.create_subprocess_exec(
        *APART, life, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        async with asyncio.timeout(SECONDS):
            output, errors = await process.communicate()
    finally:
        unprivileged.remove_state(Project(root).state)
    assert process.returncode == 0, errors.decode()
    verdicts, last_change = output.decode().strip().splitlines()
    by_name = {verdict["invariant"]: verdict for verdict in json.loads(verdicts)}
    return by_name, datetime.fromisoformat(last_change)
