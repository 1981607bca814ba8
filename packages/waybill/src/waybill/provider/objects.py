"""Renders payment intents, charges, refunds and events as Stripe's JSON objects."""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from waybill.provider.model import Charge, IntentStatus, PaymentIntent, Refund, new_id

API_VERSION = "2025-03-31.basil"

Json = dict[str, Any]


def encode(value: Json) -> str:
    return json.dumps(value, separators=(",", ":"))


def intent_object(intent: PaymentIntent, public_url: str) -> Json:
    return {
        "id": intent.id,
        "object": "payment_intent",
        "amount": intent.amount,
        "amount_capturable": 0,
        "amount_received": intent.amount if intent.status is IntentStatus.SUCCEEDED else 0,
        "canceled_at": intent.canceled_at,
        "cancellation_reason": intent.cancellation_reason,
        "capture_method": "automatic",
        "client_secret": intent.client_secret,
        "confirmation_method": "automatic",
        "created": intent.created,
        "currency": intent.currency,
        "customer": None,
        "description": intent.description,
        "last_payment_error": _last_error(intent),
        "latest_charge": intent.latest_charge,
        "livemode": False,
        "metadata": intent.metadata,
        "next_action": _next_action(intent, public_url),
        "payment_method": intent.payment_method,
        "payment_method_types": ["card"],
        "status": intent.status,
    }


def _last_error(intent: PaymentIntent) -> Json | None:
    if intent.last_payment_error is None:
        return None
    error = vars(intent.last_payment_error)
    error = error | {"payment_method": {"id": error["payment_method"], "object": "payment_method"}}
    return {name: value for name, value in error.items() if value is not None}


def _next_action(intent: PaymentIntent, public_url: str) -> Json | None:
    if intent.status is not IntentStatus.REQUIRES_ACTION:
        return None
    query = urlencode({"client_secret": intent.client_secret})
    return {
        "type": "redirect_to_url",
        "redirect_to_url": {
            "url": f"{public_url}/approve/{intent.id}?{query}",
            "return_url": intent.return_url,
        },
    }


def charge_object(charge: Charge) -> Json:
    return {
        "id": charge.id,
        "object": "charge",
        "amount": charge.amount,
        "amount_captured": charge.amount if charge.paid else 0,
        "amount_refunded": charge.amount_refunded,
        "captured": charge.paid,
        "created": charge.created,
        "currency": charge.currency,
        "failure_code": None if charge.paid else "card_declined",
        "failure_message": None if charge.paid else "Your card was declined.",
        "livemode": False,
        "metadata": charge.metadata,
        "paid": charge.paid,
        "payment_intent": charge.payment_intent,
        "payment_method": charge.payment_method,
        "refunded": charge.amount_refunded == charge.amount,
        "status": "succeeded" if charge.paid else "failed",
    }


def refund_object(refund: Refund) -> Json:
    return {
        "id": refund.id,
        "object": "refund",
        "amount": refund.amount,
        "charge": refund.charge,
        "created": refund.created,
        "currency": refund.currency,
        "metadata": refund.metadata,
        "payment_intent": refund.payment_intent,
        "reason": refund.reason,
        "status": "succeeded",
    }


def event_object(event_type: str, data: Json, now: int) -> Json:
    return {
        "id": new_id("evt"),
        "object": "event",
        "api_version": API_VERSION,
        "created": now,
        "data": {"object": data},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": event_type,
    }


def list_object(url: str, items: Sequence[Json], *, has_more: bool) -> Json:
    return {"object": "list", "url": url, "has_more": has_more, "data": items}


def search_result_object(url: str, items: Sequence[Json], *, has_more: bool) -> Json:
    return {
        "object": "search_result",
        "url": url,
        "has_more": has_more,
        "data": items,
        "next_page": items[-1]["id"] if has_more else None,
    }
