"""Any interleaving of events, calls, losses, webhooks and people ends the same way."""

from collections import deque
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import httpx
import pytest
from chassis.tables import new_id
from chassis.testing import Delivered, bearer, logged
from contracts.payments import PaymentEvent, PaymentFailed, PaymentRefunded, PaymentSucceeded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from payments import settlement

METHODS = ["pm_card_ok", "pm_card_declined", "pm_card_requires_action"]
FAULTS = [None, None, "request lost", "answer lost", "crash", 409, 503]
STEPS = [
    *(["created", "reserved", "charge"] * 3),
    *("cancelled", "refund", "time passes"),
    *("webhooks", "webhooks backwards", "webhooks lost"),
    *("approve", "reject", "confirm"),
]
# A step may be followed by some that nobody looked at.
STAGE = {
    "pending": 0,
    "processing": 1,
    "requires_action": 1,
    "succeeded": 2,
    "failed": 2,
    "cancelled": 2,
    "refunded": 3,
}

Step = st.tuples(st.sampled_from(STEPS), st.sampled_from(FAULTS))


class Story:
    """One order, from its first event until nothing is left to do."""

    def __init__(self, it: Any, desk: Any, provider: Any, deliver: Delivered, hear: Any) -> None:
        self.it = it
        self.desk = desk
        self.provider = provider
        self.deliver = deliver
        self.hear = hear
        self.delivered: set[str] = set()
        self.heard: deque[str] = deque(maxlen=5)
        self.status = "pending"

    async def take(self, step: str, fault: Any, client: httpx.AsyncClient) -> None:
        match step:
            case "created" | "reserved" | "cancelled":
                await self.deliver(getattr(self.it, step)())
                self.delivered.add(step)
            case "charge":
                await self._work(settlement.claim_payments, fault)
            case "refund":
                await self._work(settlement.claim_refunds, fault)
            case "time passes":
                await self.desk.time_passes()
            case "webhooks" | "webhooks backwards":
                await self._hear(backwards=step == "webhooks backwards")
            case "webhooks lost":
                self.provider.webhooks()
            case _:
                await self._decide(step, client)
        await self._observe()

    async def _work(self, claim: Any, fault: Any) -> None:
        self.provider.faults.append(fault)
        for job in await claim(1):
            if fault == "crash":
                with pytest.raises(RuntimeError, match="died"):
                    await job()
            else:
                await job()
        self.provider.faults.clear()

    async def _hear(self, *, backwards: bool) -> None:
        """The new ones and, once more, some that were heard before."""
        waiting: list[str] = [*self.provider.webhooks(), *self.heard]
        for webhook in reversed(waiting) if backwards else waiting:
            assert (await self.hear(webhook)).status_code == 200
        self.heard.extend(waiting)

    async def _decide(self, step: str, client: httpx.AsyncClient) -> None:
        if not self.delivered:
            return
        payment = await self.desk.payment_of(self.it.id)
        if step == "confirm":
            headers = bearer(self.it.user_id) | {"Idempotency-Key": str(new_id())}
            reply = await client.post(f"/payments/{payment.id}/confirm", headers=headers)
            assert reply.status_code in {202, 404, 409}
        elif payment.client_secret:
            await getattr(self.provider, step)(payment.client_secret)

    async def _observe(self) -> None:
        if not self.delivered:
            return
        status = (await self.desk.payment_of(self.it.id)).status
        forward = STAGE[status] > STAGE[self.status] or STAGE[status] == STAGE[self.status] == 1
        assert forward or status == self.status
        self.status = status

    async def end(self, client: httpx.AsyncClient) -> None:
        """What has to come does come, in the end; the last word is the provider's."""
        for step in sorted({"created", "reserved"} - self.delivered):
            await self.take(step, None, client)
        await self.desk.settle_everything()
        await self._hear(backwards=False)
        await self.desk.settle_everything()
        await self._observe()


@pytest.mark.timeout(300)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(method=st.sampled_from(METHODS), steps=st.lists(Step, max_size=20))
async def test_however_it_comes_money_and_events_agree(
    desk: Any,
    provider: Any,
    deliver: Delivered,
    hear: Any,
    client: httpx.AsyncClient,
    order: Any,
    method: str,
    steps: Sequence[tuple[str, Any]],
) -> None:
    provider.webhooks()
    story = Story(order(method), desk, provider, deliver, hear)
    for step, fault in steps:
        await story.take(step, fault, client)
    await story.end(client)

    it = story.it
    payment = await desk.payment_of(it.id)
    charges = provider.charges(it.id)
    told = await _told(it.id)
    assert len(charges) <= 1
    assert payment.captured == sum(charge.amount for charge in charges)
    assert payment.captured - payment.refunded == provider.kept(it.id)
    if "cancelled" in story.delivered:
        assert provider.kept(it.id) == 0
        assert payment.status in {"cancelled", "failed", "refunded"}
    elif method == "pm_card_ok":
        assert payment.status == "succeeded"
    elif method == "pm_card_declined":
        assert payment.status == "failed"
    _agree(told, payment)


async def _told(order_id: UUID) -> list[PaymentEvent]:
    kinds = (PaymentSucceeded, PaymentFailed, PaymentRefunded)
    return [event for kind in kinds for event in await logged(kind) if event.order_id == order_id]


def _agree(told: Sequence[PaymentEvent], payment: Any) -> None:
    """What was told, without what was told again, is what is."""
    once = {event.model_dump_json(): event for event in told}.values()
    succeeded = [event for event in once if isinstance(event, PaymentSucceeded)]
    failed = [event for event in once if isinstance(event, PaymentFailed)]
    refunded = [event for event in once if isinstance(event, PaymentRefunded)]
    assert len(succeeded) == (payment.captured > 0)
    assert len(failed) == (payment.status == "failed")
    assert sum(event.amount for event in refunded) == payment.refunded
