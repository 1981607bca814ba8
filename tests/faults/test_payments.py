"""The provider takes the money and does not say so."""

from dataclasses import replace

import pytest
from faults.trial import MIX, Trial

pytestmark = pytest.mark.timeout(420)

ORDERS = 60


@pytest.mark.fault("provider-timeout")
async def test_provider_charges_and_gives_no_answer(trial: Trial) -> None:
    """Such a payment takes its place for twenty seconds; whoever else pays must find another."""
    mix = replace(MIX, timeout=0.04)
    async with trial.under_load(mix) as run, trial.blow("charges without an answer"):
        await run.accepted_at_least(run.accepted + ORDERS)
