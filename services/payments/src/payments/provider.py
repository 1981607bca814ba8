"""Speaks the payment provider's language (Stripe's payment intents), through the sidecar.

Every function asks once. Retries, time limits and the breaker are the sidecar's; the key that
opens the provider is the HTTP endpoint's.
"""

from typing import TypeVar
from urllib.parse import urlencode

from chassis.sidecar import Reply, SidecarUnavailable, sidecar
from pydantic import BaseModel, ValidationError

from payments.domain import Attempt, Payment, Refund
from payments.reports import Intent, RefundReport

ENDPOINT = "payment-provider"
FORM = "application/x-www-form-urlencoded"
INTENTS = "v1/payment_intents"
REFUNDS = "v1/refunds"

AnswerT = TypeVar("AnswerT", bound=BaseModel)


class OutcomeUnknown(Exception):  # noqa: N818  # named for what it says
    """The request may or may not have had an effect; only asking again will tell."""


class Refused(Exception):  # noqa: N818  # as above
    """The provider will not do this and has done nothing."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class KeyTaken(OutcomeUnknown):
    """The idempotency key came before, with another request."""


class ErrorDetail(BaseModel):
    type: str
    code: str | None = None
    payment_intent: Intent | None = None


class ErrorAnswer(BaseModel):
    error: ErrorDetail


class IntentList(BaseModel):
    data: list[Intent]


class RefundList(BaseModel):
    data: list[RefundReport]


async def charge(payment: Payment, attempt: Attempt) -> Intent:
    """Charges, or tells what came of it when the same attempt is made again."""
    form = {
        **_description(payment),
        "payment_method": str(payment.payment_method),
        "confirm": "true",
    }
    return await _post_intent(INTENTS, form, attempt.idempotency_key)


async def prevent_charge(payment: Payment, attempt: Attempt) -> Intent:
    """Uses the attempt's key up on an intent that charges nothing, so that it never can again.

    Raises `KeyTaken` when the provider had the attempt already.
    """
    return await _post_intent(INTENTS, _description(payment), attempt.idempotency_key)


async def confirm(payment: Payment, attempt: Attempt) -> Intent:
    form = {"client_secret": str(payment.client_secret)}
    return await _post_intent(
        f"{INTENTS}/{payment.intent_id}/confirm", form, attempt.idempotency_key
    )


async def cancel(payment: Payment) -> Intent:
    """Cancels the intent, or tells what it has become when it is too late for that."""
    return await _post_intent(f"{INTENTS}/{payment.intent_id}/cancel", {})


async def show(payment: Payment) -> Intent:
    return _intent(await _invoke(f"{INTENTS}/{payment.intent_id}"))


async def find_intent(payment: Payment) -> Intent | None:
    """The payment's intent by what was written on it, for when the idempotency key has expired."""
    query = urlencode({"query": f"metadata['payment_id']:'{payment.id}'"})
    reply = await _invoke(f"{INTENTS}/search?{query}")
    return next(iter(_parse(IntentList, reply).data), None)


async def refund(refund: Refund) -> RefundReport:
    """Gives money back, or tells what came of it when the same refund is asked for again."""
    form = {
        "payment_intent": str(refund.payment.intent_id),
        "amount": str(refund.amount),
        "metadata[refund_id]": str(refund.id),
        **_metadata(refund.payment),
    }
    return _parse(RefundReport, await _invoke(REFUNDS, form, refund.idempotency_key))


async def show_refund(refund: Refund) -> RefundReport:
    return _parse(RefundReport, await _invoke(f"{REFUNDS}/{refund.provider_id}"))


async def find_refund(refund: Refund) -> RefundReport | None:
    """As `find_intent`."""
    query = urlencode({"payment_intent": str(refund.payment.intent_id), "limit": 100})
    made = _parse(RefundList, await _invoke(f"{REFUNDS}?{query}")).data
    return next((r for r in made if r.metadata.get("refund_id") == str(refund.id)), None)


def _description(payment: Payment) -> dict[str, str]:
    return {
        "amount": str(payment.amount),
        "currency": str(payment.currency).lower(),
        **_metadata(payment),
    }


def _metadata(payment: Payment) -> dict[str, str]:
    """Comes back with every webhook, and is what an intent can be found by."""
    return {
        "metadata[order_id]": str(payment.order_id),
        "metadata[payment_id]": str(payment.id),
    }


async def _post_intent(path: str, form: dict[str, str], key: str | None = None) -> Intent:
    return _intent(await _invoke(path, form, key))


async def _invoke(path: str, form: dict[str, str] | None = None, key: str | None = None) -> Reply:
    """GET without a form, POST with one."""
    try:
        if form is None:
            return await sidecar.invoke(ENDPOINT, path)
        return await sidecar.invoke(
            ENDPOINT,
            path,
            method="POST",
            body=urlencode(form).encode(),
            content_type=FORM,
            headers={"Idempotency-Key": key} if key else {},
        )
    except SidecarUnavailable as error:
        raise OutcomeUnknown(error.detail) from error


def _intent(reply: Reply) -> Intent:
    """An intent that could not be charged comes inside the error that says so."""
    if reply.status in {400, 402} and (intent := _error(reply).payment_intent):
        return intent
    return _parse(Intent, reply)


def _parse(kind: type[AnswerT], reply: Reply) -> AnswerT:
    if reply.ok:
        return _read(kind, reply.body)
    if reply.status not in {400, 402}:  # busy, broken or misconfigured: no word on the request
        raise OutcomeUnknown(f"The provider answered {reply.status}.")
    error = _error(reply)
    if error.type == "idempotency_error":
        raise KeyTaken(error.type)
    raise Refused(error.code or error.type)


def _error(reply: Reply) -> ErrorDetail:
    return _read(ErrorAnswer, reply.body).error


def _read(kind: type[AnswerT], body: bytes) -> AnswerT:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise OutcomeUnknown("The provider's answer cannot be read.") from error
