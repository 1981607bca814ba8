"""What the service does when it starts and stops, and what it counts."""

from contextlib import suppress
from typing import Any

import pytest
from chassis.database import database
from chassis.testing import Delivered, StandInSidecar
from payments import webhooks
from payments.app import lifespan
from payments.domain import Payment
from prometheus_client import REGISTRY
from sqlalchemy import select
from waybill.provider.webhooks import signature


async def test_the_webhook_secret_comes_from_the_secret_store(
    stand_in: StandInSidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier = webhooks.SignatureVerifier()
    monkeypatch.setattr(webhooks, "signature_verifier", verifier)
    stand_in.secrets["payments-secrets", "webhook-secret"] = "whsec_of_the_store"
    async with lifespan():
        verifier.verify(signature("{}", "whsec_of_the_store", 1), b"{}", now=1)


def _count(status: str) -> float:
    return REGISTRY.get_sample_value("payments_total", {"status": status}) or 0


async def test_payments_are_counted_by_the_statuses_they_come_to(
    deliver: Delivered, desk: Any, order: Any
) -> None:
    before = {status: _count(status) for status in ("succeeded", "failed", "refunded")}
    for method in ("pm_card_ok", "pm_card_ok", "pm_card_declined"):
        it = order(method)
        await deliver(it.created())
        await deliver(it.reserved())
    await desk.settle()
    await deliver(it.cancelled())

    after = {status: _count(status) - counted for status, counted in before.items()}
    assert after == {"succeeded": 2, "failed": 1, "refunded": 0}


async def test_what_is_rolled_back_is_not_counted(
    deliver: Delivered, order: Any, client: object
) -> None:
    await deliver(order().created())
    before = _count("cancelled")
    with suppress(ConnectionError):
        async with database.transaction() as session:
            payment = (await session.scalars(select(Payment))).one()
            payment.status = "cancelled"
            raise ConnectionError
    assert _count("cancelled") == before
