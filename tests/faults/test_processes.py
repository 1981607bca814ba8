"""Services and sidecars die, stand still, and die at the worst possible moment."""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence

import pytest
from faults.trial import Trial
from waybill import control
from waybill.waiting import until

pytestmark = pytest.mark.timeout(600)

FROZEN_SECONDS = 30
LONGEST_FROZEN_SECONDS = 120

CONSUMED = {
    "orders": "payment.succeeded",
    "inventory": "order.created",
    "payments": "stock.reserved",
    "tracking": "order.status_changed",
    "notifications": "shipment.created",
    "dashboard": "order.created",
}
BOUNDARIES: Mapping[str, Sequence[str]] = {
    "before a consumer's commit": [f"{s}.{t}.before-commit" for s, t in CONSUMED.items()],
    "after a consumer's commit": [f"{s}.{t}.after-commit" for s, t in CONSUMED.items()],
    "before a request's commit": ["orders.request.before-commit"],
    "before a request's answer": ["orders.request.after-commit"],
    "before a relay publishes": [
        f"{service}.relay.before-publish" for service in CONSUMED if service != "dashboard"
    ],
    "before a relay marks": [
        f"{service}.relay.before-mark" for service in CONSUMED if service != "dashboard"
    ],
}


@pytest.mark.quick
@pytest.mark.fault("service-killed")
async def test_each_service_is_killed(trial: Trial) -> None:
    """Those that consume at one of their commits, the others at any moment."""
    names = [app.name for app in trial.project.apps]
    trial.random.shuffle(names)
    async with trial.under_load():
        for name in names:
            if name in CONSUMED:
                point = trial.random.choice(points_of(name))
                await die_at(trial, name, point, f"{name} killed at a commit")
            else:
                await trial.kill(name)


def points_of(service: str) -> list[str]:
    return [p for points in BOUNDARIES.values() for p in points if p.startswith(f"{service}.")]


async def die_at(trial: Trial, service: str, point: str, what: str) -> None:
    file = trial.platform.failpoints / point
    pid = await trial.pid(service)
    file.touch()

    async def met() -> bool:
        return not file.exists()

    try:
        await until(met, seconds=60, every=0.05)
    finally:
        file.unlink(missing_ok=True)
    async with trial.blow(what):
        await trial.returned(service, pid)


@pytest.mark.timeout(900)
@pytest.mark.fault("service-killed")
@pytest.mark.parametrize("boundary", BOUNDARIES)
async def test_services_die_at_each_commit_boundary(trial: Trial, boundary: str) -> None:
    points = list(BOUNDARIES[boundary])
    trial.random.shuffle(points)
    async with trial.under_load():
        for point in points:
            await die_at(trial, point.partition(".")[0], point, f"killed {boundary}")


@pytest.mark.quick
@pytest.mark.fault("sidecar-killed")
async def test_each_sidecar_is_killed(trial: Trial) -> None:
    names = [f"{app.name}-daprd" for app in trial.project.apps]
    trial.random.shuffle(names)
    async with trial.under_load():
        for name in names:
            await trial.kill(name)


@pytest.mark.quick
@pytest.mark.fault("frozen")
async def test_a_consumer_and_another_ones_sidecar_stand_still(trial: Trial) -> None:
    service, other = trial.random.sample(["orders", "inventory", "payments", "tracking"], 2)
    await freeze(trial, [service, f"{other}-daprd"], FROZEN_SECONDS)


@pytest.mark.fault("frozen")
@pytest.mark.parametrize("part", ["", "-daprd"], ids=["service", "sidecar"])
async def test_a_process_stands_still_for_long(trial: Trial, part: str) -> None:
    app = trial.random.choice(trial.project.apps)
    seconds = trial.random.uniform(FROZEN_SECONDS, LONGEST_FROZEN_SECONDS)
    await freeze(trial, [f"{app.name}{part}"], seconds)


async def freeze(trial: Trial, names: Sequence[str], seconds: float) -> None:
    async with trial.under_load():
        pids = [await trial.pid(name) for name in names]
        kind = "sidecar" if names[-1].endswith("-daprd") else "service"
        what = "a service and a sidecar frozen" if len(names) > 1 else f"a {kind} frozen"
        async with trial.blow(what):
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(seconds)  # the fault is its length
            finally:
                for pid in pids:
                    os.kill(pid, signal.SIGCONT)


@pytest.mark.timeout(900)
@pytest.mark.fault("rolling-stop")
@pytest.mark.parametrize("first", ["", "-daprd"], ids=["service-first", "sidecar-first"])
async def test_all_are_stopped_and_started_one_after_another(trial: Trial, first: str) -> None:
    second = "-daprd" if first == "" else ""
    async with trial.under_load() as run:
        for app in trial.project.apps:
            async with trial.blow(f"restart of a {'service' if first == '' else 'sidecar'} first"):
                await control.restart(trial.project, f"{app.name}{first}")
                await control.restart(trial.project, f"{app.name}{second}")
    report = await run.report(settle_seconds=0)
    assert (report.given_up, report.abandoned) == (0, 0)
    assert trial.statuses <= {"503", "no answer"}, trial.answers
