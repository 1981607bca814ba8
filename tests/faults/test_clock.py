"""A service whose clock is ten minutes off: tokens, deadlines and leases stay sane."""

import pytest
from faults.trial import Trial

pytestmark = pytest.mark.timeout(600)

MINUTES = 10


@pytest.mark.fault("clock-skew")
@pytest.mark.parametrize("service", ["users", "gateway", "orders", "payments", "tracking"])
async def test_a_clock_is_wrong(trial: Trial, service: str) -> None:
    minutes = trial.random.choice([MINUTES, -MINUTES])
    clocks = trial.platform.clocks
    async with trial.under_load() as run:
        clocks.set_wrong(service, minutes)
        try:
            await trial.kill(service, f"clock of {service} wrong")
            await run.accepted_at_least(run.accepted + 30)
        finally:
            clocks.set_right(service)
        await trial.kill(service, f"clock of {service} right again")
    report = await run.report(settle_seconds=0)
    assert report.given_up == 0
    assert trial.statuses <= {"502", "503", "504", "no answer"}
