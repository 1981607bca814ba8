"""The provider's webhooks: proved by their signature, each taken in once."""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import structlog
from chassis import pruning
from chassis.database import Session
from chassis.jobs import Job
from chassis.problems import Problem
from chassis.settings import settings
from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, StringConstraints, ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from payments import store, use_cases
from payments.domain import ProviderEvent
from payments.reports import Intent, RefundReport

log = structlog.get_logger(__name__)
router = APIRouter(prefix="/payments/webhooks", tags=["payments"])

TOLERANCE_SECONDS = 300


class InvalidSignature(Problem):
    status = 400


class MalformedEvent(Problem):
    status = 400


class EventData(BaseModel):
    object: dict[str, Any]


class WebhookEvent(BaseModel):
    id: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    type: str
    data: EventData


class Receipt(BaseModel):
    received: bool = True


class SignatureVerifier:
    """Knows the secret that only the provider shares with us; trusts nobody until it does."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def trust(self, secret: str) -> None:
        if not secret:
            raise ValueError("The webhook secret is empty: anybody could sign with it.")
        self._secret = secret.encode()

    def verify(self, header: str, payload: bytes, now: float) -> None:
        """`header` is `t=<seconds>,v1=<hex>`, with a v1 per secret while the provider changes its
        secret. Raises `InvalidSignature`, also for a time that is not about `now`.
        """
        fields = [field.strip().partition("=")[::2] for field in header.split(",")]
        timestamp = next((value for name, value in fields if name == "t"), "")
        if not _is_recent(timestamp, now):
            raise InvalidSignature("The signature has no timestamp, or not one of this time.")
        message = timestamp.encode() + b"." + payload
        expected = hmac.new(self._secret, message, hashlib.sha256).hexdigest().encode()
        signatures = [value.encode() for name, value in fields if name == "v1"]
        if not any(hmac.compare_digest(expected, signature) for signature in signatures):
            raise InvalidSignature("No signature fits the payload.")


def _is_recent(timestamp: str, now: float) -> bool:
    if not re.fullmatch("[0-9]{1,12}", timestamp):
        return False
    return abs(now - int(timestamp)) <= TOLERANCE_SECONDS


signature_verifier = SignatureVerifier()


@router.post("/provider")
async def receive(
    request: Request,
    session: Session,
    signature: Annotated[str, Header(alias="Stripe-Signature", max_length=2_000)] = "",
) -> Receipt:
    payload = await request.body()
    signature_verifier.verify(signature, payload, time.time())
    with _explained():
        event = WebhookEvent.model_validate_json(payload)
    effect = EFFECTS.get(event.type)
    if effect is None:
        log.info("webhook_ignored", provider_event_id=event.id, type=event.type)
    elif await store.is_news(session, event.id):
        await effect(session, event.data.object)
    return Receipt()


async def _hear_of_intent(session: AsyncSession, data: dict[str, Any]) -> None:
    with _explained():
        intent = Intent.model_validate(data)
    await use_cases.hear_of_intent(session, intent)


async def _hear_of_refund(session: AsyncSession, data: dict[str, Any]) -> None:
    with _explained():
        report = RefundReport.model_validate(data)
    await use_cases.hear_of_refund(session, report)


@contextmanager
def _explained() -> Generator[None]:
    try:
        yield
    except ValidationError as error:
        raise MalformedEvent("The payload is not an event as the provider sends it.") from error


async def forget_old_webhooks() -> int:
    """The provider gives up on a webhook within days; ours are kept as long as our own events."""
    before = datetime.now(UTC) - timedelta(days=settings().event_log_days)
    return await pruning.empty(ProviderEvent, ProviderEvent.received_at < before)


forgetting = Job("forget-webhooks", pruning.SCHEDULE, forget_old_webhooks)

EFFECTS: Mapping[str, Callable[[AsyncSession, dict[str, Any]], Awaitable[None]]] = {
    "payment_intent.succeeded": _hear_of_intent,
    "payment_intent.payment_failed": _hear_of_intent,
    "payment_intent.requires_action": _hear_of_intent,
    "payment_intent.canceled": _hear_of_intent,
    "refund.created": _hear_of_refund,
    "refund.updated": _hear_of_refund,
    "refund.failed": _hear_of_refund,
}
