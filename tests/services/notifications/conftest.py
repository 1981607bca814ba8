"""Fixtures for the tests of `notifications`."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

import grpc
import pytest
from chassis.sidecar import SidecarUnavailable, sidecar
from chassis.testing import StandInSidecar
from contracts import Event
from fastapi import FastAPI
from grpc.aio import AioRpcError, Metadata
from notifications.app import app as notifications_app

E = TypeVar("E", bound=Event)

FACTS: dict[str, Any] = {
    "user_id": UUID("01980000-0000-7000-8000-00000000000a"),
    "order_id": UUID("01980000-0000-7000-8000-00000000000b"),
    "payment_id": UUID("01980000-0000-7000-8000-00000000000c"),
    "refund_id": UUID("01980000-0000-7000-8000-00000000000d"),
    "shipment_id": UUID("01980000-0000-7000-8000-00000000000e"),
    "occurred_at": datetime(2026, 3, 1, 12, tzinfo=UTC),
    "user_version": 1,
    "email": "ada@example.org",
    "name": "Ada",
    "order_version": 1,
    "lines": [{"sku": "LAMP", "name": "Desk lamp", "quantity": 2, "unit_price": 4_900}],
    "total": 9_800,
    "currency": "EUR",
    "shipping_address": {"line1": "-", "city": "-", "postal_code": "-", "country": "NO"},
    "payment_method": "pm_card_ok",
    "status": "shipped",
    "previous_status": "processing",
    "reason": "out_of_stock",
    "amount": 9_800,
    "refunded_total": 9_800,
    "tracking_number": "WB0001",
    "sku": "LAMP",
    "available": 3,
    "threshold": 5,
}


@pytest.fixture
def make() -> Callable[..., Any]:
    """An event of the given type, with the facts above where none are given."""

    def make(event: type[E], **facts: Any) -> E:
        return event.model_validate(FACTS | facts)

    return make


class MailServer:
    """Takes mail through the sidecar, and answers some recipients as `says` tells it to."""

    def __init__(self, stand_in: StandInSidecar) -> None:
        self._stand_in = stand_in
        self.says: dict[str, str] = {}

    @property
    def mails(self) -> list[tuple[str, str, str]]:
        """Recipient, subject and HTML."""
        return [(to["emailTo"], to["subject"], html) for _, html, to in self._stand_in.bindings]

    async def take(self, name: str, operation: str, data: str, metadata: dict[str, str]) -> None:
        if words := self.says.get(metadata["emailTo"]):
            details = f"error invoking output binding email: error from smtp binding: {words}"
            said = AioRpcError(grpc.StatusCode.INTERNAL, Metadata(), Metadata(), details)
            raise SidecarUnavailable("The sidecar did not do what it was asked.", str(said))
        await self._stand_in.call_binding(name, operation, data, metadata)


@pytest.fixture
def mail_server(stand_in: StandInSidecar, monkeypatch: pytest.MonkeyPatch) -> MailServer:
    server = MailServer(stand_in)
    monkeypatch.setattr(sidecar, "call_binding", server.take)
    return server


@pytest.fixture
def service() -> str:
    return "notifications"


@pytest.fixture
def app() -> FastAPI:
    return notifications_app
