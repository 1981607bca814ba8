"""The load tells the truth: what it reports is what is in the ledger and in the databases."""

from collections import Counter

import pytest
from waybill import ledger
from waybill.commands.verify import broken_promises
from waybill.load.driver import Load
from waybill.project import Project
from waybill.verify.sources import take_snapshot

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ORDERS = 40
GOODS = [f"SKU-000{number}" for number in range(1, 6)]


async def test_the_report_of_a_load_is_what_the_ledger_and_the_databases_say(
    platform: Project,
) -> None:
    noted_before = acknowledged(platform)
    load = Load(project=platform, goods=GOODS, rate=15, seed=20, customers=10)
    async with load.running() as run:
        await run.accepted_at_least(ORDERS)
    report = await run.report(settle_seconds=120)

    assert report.accepted >= ORDERS
    noted = acknowledged(platform) - noted_before
    assert noted == {outcome.order_id for outcome in report.outcomes}
    await has_what_is_reported(platform, noted, report.completed, report.waiting_for_customers)
    assert (report.lost, report.unfinished, report.abandoned) == ([], 0, 0)

    assert sum(second.accepted for second in report.timeline) == report.accepted
    assert sum(second.completed for second in report.timeline) == report.completed
    assert report.latencies["order"].count == report.accepted
    assert report.time_to_tracking
    assert 0 < report.time_to_tracking.p50 <= report.time_to_tracking.max
    parts = {"gateway", "gateway-daprd", "orders", "orders-daprd", "rabbitmq", "postgres"}
    assert all(report.cpu_per_order[name] > 0 for name in parts)
    assert report.cost.driver < report.cost.platform

    assert await broken_promises(platform) == []


def acknowledged(platform: Project) -> set[str]:
    path = ledger.path_of(platform)
    entries = ledger.read(path) if path.exists() else ()
    return {asked.order_id for asked in entries if asked.order_id}


async def has_what_is_reported(
    platform: Project, order_ids: set[str], completed: int, waiting: int
) -> None:
    snapshot = await take_snapshot(platform)
    orders = [order for order in snapshot.orders if order.id in order_ids]
    assert len(orders) == len(order_ids)
    ended = sum(bool(o.tracking_number) or o.status == "cancelled" for o in orders)
    assert ended == completed
    asked = Counter(p.status for p in snapshot.payments if p.order_id in order_ids)
    assert asked["requires_action"] == waiting
