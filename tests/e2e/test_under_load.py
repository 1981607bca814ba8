"""Restarts that nobody notices, and more customers than the platform can serve."""

from collections.abc import Sequence

import pytest
from waybill import control
from waybill.commands.verify import broken_promises
from waybill.load.driver import Load
from waybill.load.mix import Mix
from waybill.load.report import Report
from waybill.project import Project

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

GOODS = [f"SKU-000{number}" for number in range(1, 6)]
SETTLE_SECONDS = 120
ALL_COMPLETE = Mix(buying=1, newcomers=0, declined=0, requires_action=0, timeout=0, cancelled=0)
# The steady part of a load: its first orders meet an idle platform, its last ones are alone.
WARM_UP_SECONDS = 10
MEASURED_SECONDS = 20
# Beside strangers who take the processors, a bound on requests or on time may be met first.
NOT_NOW = ("503 too-busy", "503 service-unavailable", "504 gateway-timeout")
# Who else uses the machine in one of two phases spoils the comparison, not the platform.
COMPARISONS = 3


@pytest.mark.parametrize(
    "names",
    [("orders", "orders-daprd"), ("orders-daprd", "orders"), ("inventory", "payments", "tracking")],
    ids="-".join,
)
async def test_a_rolling_restart_is_not_noticed(platform: Project, names: Sequence[str]) -> None:
    load = Load(project=platform, goods=GOODS, buyers=4, mix=ALL_COMPLETE)
    async with load.running() as run:
        for name in names:
            await run.accepted_at_least(run.accepted + 8)
            await control.restart(platform, name)
        await run.accepted_at_least(run.accepted + 8)
    report = await run.report(SETTLE_SECONDS)

    assert_only_put_off(report)
    assert await broken_promises(platform) == []


async def test_a_restart_that_outlasts_patience_puts_customers_off(platform: Project) -> None:
    """`catalog`, whose restart may take longer than the four seconds that its callers try."""
    load = Load(project=platform, goods=GOODS, buyers=4, mix=ALL_COMPLETE)
    async with load.running() as run:
        await run.accepted_at_least(8)
        await control.restart(platform, "catalog")
        await run.accepted_at_least(run.accepted + 8)
    report = await run.report(SETTLE_SECONDS)

    assert_only_put_off(report, "503 sidecar-unavailable")
    assert await broken_promises(platform) == []


@pytest.mark.timeout(600)
async def test_twice_the_load_it_can_bear_costs_no_throughput(platform: Project) -> None:
    ratios: list[float] = []
    while max(ratios, default=0) < 0.9:
        peak = throughput(
            await measured(
                Load(project=platform, goods=GOODS, buyers=8, mix=ALL_COMPLETE, seconds=30)
            )
        )
        too_much = Load(
            project=platform,
            goods=GOODS,
            rate=2 * peak,
            mix=ALL_COMPLETE,
            seconds=30,
            in_flight=200,
        )
        report = await measured(too_much)
        goodput = throughput(report)
        ratios.append(goodput / peak)
        print(  # noqa: T201
            f"peak {peak:.1f}/s, offered {2 * peak:.1f}/s: goodput {goodput:.1f}/s; {report.errors}"
        )
        assert len(ratios) <= COMPARISONS

    assert await broken_promises(platform) == []


async def measured(load: Load) -> Report:
    async with load.running() as run:
        await run.ended()
    report = await run.report(SETTLE_SECONDS)
    assert_only_put_off(report, *NOT_NOW)
    return report


def assert_only_put_off(report: Report, *excuses: str) -> None:
    """Whoever was not served was asked to come again, and all orders that were taken are done."""
    assert set(report.errors) <= {"order"}
    assert set(report.errors.get("order", ())) <= {"503 too-many-orders", *excuses}
    assert report.completed == report.accepted


def throughput(report: Report) -> float:
    """Orders completed a second, in the steady part of the load."""
    steady = report.timeline[WARM_UP_SECONDS : WARM_UP_SECONDS + MEASURED_SECONDS]
    return sum(second.completed for second in steady) / len(steady)
