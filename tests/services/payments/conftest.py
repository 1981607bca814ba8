"""Fixtures for the tests of `payments`: the provider's simulator in process, and its records."""

import json
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from chassis.database import database
from chassis.sidecar import Reply, SidecarUnavailable
from chassis.tables import new_id
from chassis.testing import StandInSidecar
from contracts.inventory import ReservedLine, StockReserved
from contracts.orders import (
    Address,
    CancellationReason,
    OrderCancelled,
    OrderCreated,
    OrderLine,
)
from fastapi import FastAPI
from payments import settlement, store
from payments.app import app as payments_app
from payments.domain import Payment, Refund
from payments.webhooks import signature_verifier
from pydantic import SecretStr
from sqlalchemy import select, update
from sqlalchemy.orm import selectinload
from waybill.provider.app import create_app
from waybill.provider.model import Charge
from waybill.provider.settings import Settings
from waybill.provider.store import Store
from waybill.provider.webhooks import signature

API_KEY = "sk_test_of_the_tests"
WEBHOOK_SECRET = "whsec_of_the_tests"
NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


class Crash(RuntimeError):  # noqa: N818  # nobody's error
    """The process died here, as far as the work that raises it is concerned."""


@pytest.fixture
def service() -> str:
    return "payments"


class Provider:
    """The simulator as the service meets it through its sidecar, with faults on demand.

    `faults` are used up one a call: what is answered in the provider's place, or "request lost",
    "answer lost" or "crash" (the provider did what it was asked, and then this process died).
    """

    def __init__(self, http: httpx.AsyncClient, records: Store) -> None:
        self._http = http
        self.records = records
        self.faults: deque[int | str | Reply | None] = deque()
        self.calls: list[tuple[str, str]] = []
        self.keys: list[str | None] = []

    async def invoke(
        self,
        app_id: str,
        path: str,
        *,
        method: str = "GET",
        body: bytes | None = None,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        assert app_id == "payment-provider"
        self.calls.append((method, path.partition("?")[0]))
        self.keys.append((headers or {}).get("Idempotency-Key"))
        fault = self.faults.popleft() if self.faults else None
        if fault == "request lost":
            raise SidecarUnavailable("The provider did not answer.")
        if isinstance(fault, Reply):
            return fault
        if isinstance(fault, int):
            return Reply(fault, {}, b'{"error": {"type": "api_error", "message": "Trouble."}}')
        sent = {**(headers or {}), "Content-Type": content_type}
        got = await self._http.request(method, f"/{path}", content=body, headers=sent)
        if fault == "answer lost":
            raise SidecarUnavailable("The provider did not answer.")
        if fault == "crash":
            raise Crash("The process died.")
        return Reply(got.status_code, got.headers, got.content)

    def charges(self, order_id: UUID) -> list[Charge]:
        """The charges of an order that took money."""
        charges = self.records.charges(intent_id=None, limit=1_000, after=None).items
        return [c for c in charges if c.paid and c.metadata["order_id"] == str(order_id)]

    def kept(self, order_id: UUID) -> int:
        """What the provider has taken for an order and not given back."""
        return sum(c.amount - c.amount_refunded for c in self.charges(order_id))

    async def approve(self, client_secret: str) -> None:
        await self._decide(client_secret, "approve")

    async def reject(self, client_secret: str) -> None:
        await self._decide(client_secret, "reject")

    async def _decide(self, client_secret: str, decision: str) -> None:
        """What the customer clicks on the provider's own page."""
        page = f"/approve/{client_secret.partition('_secret_')[0]}"
        answer = {"client_secret": client_secret, "decision": decision}
        (await self._http.post(page, data=answer)).raise_for_status()

    def forget_keys(self) -> None:
        """As after a day."""
        self.records.forget_answers_before(datetime.now(UTC).timestamp() + 1)

    def webhooks(self) -> list[str]:
        """The payloads that the provider would deliver, oldest first; each is returned once."""
        due = self.records.due_webhooks(datetime.now(UTC).timestamp() + 60, 1_000)
        for webhook in due:
            self.records.remove_webhook(webhook.id)
        return [webhook.payload for webhook in due]


@pytest.fixture
async def provider(
    tmp_path: Path, stand_in: StandInSidecar, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Provider]:
    settings = Settings(
        api_key=SecretStr(API_KEY),
        webhook_secret=SecretStr(WEBHOOK_SECRET),
        state_dir=tmp_path,
        latency_ms=0,
        hang=0,
        webhook_delay_ms=0,
    )
    transport = httpx.ASGITransport(create_app(settings))
    authorization = {"Authorization": f"Bearer {API_KEY}"}
    records = Store(tmp_path)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://provider", headers=authorization
    ) as http:
        provider = Provider(http, records)
        monkeypatch.setattr("chassis.sidecar.sidecar.invoke", provider.invoke)
        yield provider
    records.close()


@pytest.fixture
def app(db: object, provider: Provider) -> FastAPI:
    signature_verifier.trust(WEBHOOK_SECRET)
    return payments_app


@pytest.fixture
def reply_with() -> Callable[..., Reply]:
    """An answer of the provider that its simulator would not give."""

    def reply(**body: Any) -> Reply:
        return Reply(200, {}, json.dumps(body).encode())

    return reply


@dataclass
class Order:
    """An order's events as their producers would publish them."""

    payment_method: str = "pm_card_ok"
    total: int = 4_900
    id: UUID = field(default_factory=new_id)
    user_id: UUID = field(default_factory=new_id)

    def created(self) -> OrderCreated:
        return OrderCreated(
            **self._stamp(1),
            lines=(OrderLine(sku="LAMP", name="Lamp", quantity=1, unit_price=self.total),),
            total=self.total,
            currency="EUR",
            shipping_address=Address(line1="1 Lane", city="Oslo", postal_code="0150", country="NO"),
            payment_method=self.payment_method,
        )

    def reserved(self) -> StockReserved:
        lines = (ReservedLine(sku="LAMP", warehouse="main", quantity=1),)
        return StockReserved(order_id=self.id, occurred_at=NOW, lines=lines)

    def cancelled(self) -> OrderCancelled:
        reason = CancellationReason.REQUESTED
        return OrderCancelled(**self._stamp(2), reason=reason, total=self.total, currency="EUR")

    def _stamp(self, version: int) -> dict[str, Any]:
        return {
            "order_id": self.id,
            "order_version": version,
            "user_id": self.user_id,
            "occurred_at": NOW,
        }


@pytest.fixture
def order() -> type[Order]:
    return Order


class Desk:
    """Does what the workers do, one job at a time, and moves their clock."""

    async def settle(self) -> None:
        """All that is due now, and what becomes due by it; a crash ends only the job it hits."""
        while jobs := [*await settlement.claim_payments(1), *await settlement.claim_refunds(1)]:
            for job in jobs:
                with suppress(Crash):
                    await job()

    async def time_passes(self) -> None:
        """Every lease and every pause ends."""
        async with database.transaction() as session:
            for kind in (Payment, Refund):
                await session.execute(
                    update(kind).where(kind.due_at.is_not(None)).values(due_at=datetime.now(UTC))
                )

    async def settle_everything(self) -> None:
        """As long a time as it takes, up to a bound."""
        for _ in range(20):
            await self.time_passes()
            await self.settle()
            if not await self._is_anything_due():
                return
        raise AssertionError("something stays due for ever")

    async def _is_anything_due(self) -> bool:
        async with database.transaction() as session:
            payment = await session.scalar(select(Payment.id).where(Payment.due_at.is_not(None)))
            refund = await session.scalar(select(Refund.id).where(Refund.due_at.is_not(None)))
            return bool(payment or refund)

    async def payment_of(self, order_id: UUID) -> Payment:
        query = select(Payment).where(Payment.order_id == order_id)
        async with database.transaction() as session:
            found = await session.scalars(query.options(selectinload(Payment.attempts)))
            return found.one()

    async def refunds_of(self, order_id: UUID) -> Sequence[Refund]:
        payment = await self.payment_of(order_id)
        async with database.transaction() as session:
            return await store.refunds_of(session, payment)


@pytest.fixture
def desk() -> Desk:
    return Desk()


Hear = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
def hear(client: httpx.AsyncClient) -> Hear:
    """Posts a webhook as the provider does, signed now unless it is told how."""

    async def post(payload: str, signed: str | None = None) -> httpx.Response:
        header = signed or signature(payload, WEBHOOK_SECRET, int(datetime.now(UTC).timestamp()))
        return await client.post(
            "/payments/webhooks/provider", content=payload, headers={"Stripe-Signature": header}
        )

    return post
