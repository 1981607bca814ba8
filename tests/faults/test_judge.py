"""The judge of the trials can say no."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from faults.trial import Trial
from waybill.credentials import load
from waybill.parts import postgres

pytestmark = pytest.mark.timeout(420)

LOST = 20
SETTLE_SECONDS = 25
"""Less than the minute after which a stalled order is prompted."""


@pytest.mark.once
@pytest.mark.fault("broker-refuses")
async def test_events_that_nobody_fetches_break_the_verdict(trial: Trial) -> None:
    """And nothing else does: once they may be fetched, all invariants hold."""
    async with without_reconciliation(trial, "inventory"):
        with pytest.raises(AssertionError):
            async with (
                trial.under_load(settle_seconds=SETTLE_SECONDS) as run,
                trial.broker.unbound("inventory", "order.created"),
            ):
                await run.accepted_at_least(run.accepted + LOST)
    assert any("still under way" in reason for reason in trial.broken), trial.broken
    trial.broken.clear()
    await trial.judge()
    assert trial.broken == []


@asynccontextmanager
async def without_reconciliation(trial: Trial, service: str) -> AsyncGenerator[None]:
    """It cannot work without its watermarks."""
    async with postgres.connection(load(trial.project), service) as session:
        await session.execute("ALTER TABLE watermarks RENAME TO watermarks_away")
        try:
            yield
        finally:
            await session.execute("ALTER TABLE watermarks_away RENAME TO watermarks")
