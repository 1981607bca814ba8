"""Everybody wants the same thing."""

import pytest
from faults.trial import Trial
from waybill.load.driver import Load
from waybill.load.mix import MOST_UNITS, Mix
from waybill.seed import Goods, seed
from waybill.verify.sources import take_snapshot

pytestmark = pytest.mark.timeout(600)

BUYERS = 500
UNITS = 300
ARRIVALS_A_SECOND = 60.0
ONLY_BUYING = Mix(1, 0, 0, 0, 0, 0, 0)


@pytest.mark.fault("hot-sku")
async def test_five_hundred_customers_want_one_scarce_article(trial: Trial) -> None:
    sku = f"HOT-{trial.random.randrange(16**8):08X}"
    await seed(trial.project, trial.shop, [Goods(sku, "The one all want", "load", 1_000, UNITS)])
    rush = Load(
        project=trial.project,
        goods=[sku],
        rate=ARRIVALS_A_SECOND,
        seconds=BUYERS / ARRIVALS_A_SECOND,
        seed=trial.seed,
        mix=ONLY_BUYING,
        customers=50,
    )
    what = "ten times the load, all for one article"
    async with trial.under_load(), rush.running() as run, trial.blow(what):
        await run.ended()
    report = await run.report(settle_seconds=0)
    assert (report.given_up, report.unfinished, report.lost) == (0, 0, [])
    snapshot = await take_snapshot(trial.project)
    [shelf] = [row for row in snapshot.stock if row.sku == sku]
    assert shelf.available < MOST_UNITS, "an order that could be served was not"
    assert shelf.available + shelf.reserved == UNITS
