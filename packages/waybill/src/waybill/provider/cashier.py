"""Carries out what merchant and customer ask for, and queues the webhooks that tell of it."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

from waybill.provider import errors
from waybill.provider.model import Charge, IntentStatus, PaymentIntent, card_of
from waybill.provider.objects import (
    Json,
    charge_object,
    encode,
    event_object,
    intent_object,
    refund_object,
)
from waybill.provider.parameters import CancelIntent, ConfirmIntent, CreateIntent, CreateRefund
from waybill.provider.store import Store, Webhook

EVENT_OF_STATUS = {
    IntentStatus.SUCCEEDED: "payment_intent.succeeded",
    IntentStatus.REQUIRES_PAYMENT_METHOD: "payment_intent.payment_failed",
    IntentStatus.REQUIRES_ACTION: "payment_intent.requires_action",
    IntentStatus.CANCELED: "payment_intent.canceled",
}


@dataclass(frozen=True)
class Answer:
    body: Json
    status: int = 200
    withheld: bool = False
    """The effect is durable, but the client is kept waiting for its answer."""


class Cashier:
    """Every method is one transaction of the store.

    It returns an answer where something was done (a declined card leaves a charge behind), and
    raises `ApiError`, leaving nothing, where the request was refused.
    """

    def __init__(self, store: Store, *, public_url: str, webhook_delay: float) -> None:
        self._store = store
        self._public_url = public_url
        self._webhook_delay = webhook_delay

    def create_intent(self, wanted: CreateIntent) -> Answer:
        intent = PaymentIntent.create(
            amount=wanted.amount,
            currency=wanted.currency,
            payment_method=wanted.payment_method,
            description=wanted.description,
            return_url=str(wanted.return_url) if wanted.return_url else None,
            metadata=wanted.metadata,
            now=int(time.time()),
        )
        self._store.add_intent(intent)
        if not wanted.confirm:
            return Answer(self.show(intent))
        return self._pay(intent, lambda now: intent.confirm(None, now))

    def confirm_intent(self, intent_id: str, wanted: ConfirmIntent) -> Answer:
        intent = self.find_intent(intent_id)
        if wanted.client_secret is not None:
            self._require_secret(intent, wanted.client_secret)
        if wanted.return_url is not None:
            intent.return_url = str(wanted.return_url)
        # The secret is the customer's word, but only for the card that they were asked about.
        approved = wanted.client_secret is not None and wanted.payment_method is None
        if approved and intent.status is IntentStatus.REQUIRES_ACTION:
            return self._pay(intent, intent.approve)
        return self._pay(intent, lambda now: intent.confirm(wanted.payment_method, now))

    def cancel_intent(self, intent_id: str, wanted: CancelIntent) -> Answer:
        intent = self.find_intent(intent_id)
        with self._changing(intent):
            intent.cancel(wanted.cancellation_reason, int(time.time()))
        return Answer(self.show(intent))

    def approve(self, intent_id: str, client_secret: str) -> PaymentIntent:
        """The customer's own yes to a payment that required action."""
        intent = self.find_intent(intent_id)
        self._require_secret(intent, client_secret)
        self._pay(intent, intent.approve)
        return intent

    def reject(self, intent_id: str, client_secret: str) -> PaymentIntent:
        """The customer's own no to a payment that required action."""
        intent = self.find_intent(intent_id)
        self._require_secret(intent, client_secret)
        with self._changing(intent):
            intent.reject()
        return intent

    def refund(self, wanted: CreateRefund) -> Answer:
        intent = self.find_intent(wanted.payment_intent, status=400)
        charge = self._store.paid_charge_of(intent.id)
        if charge is None:
            raise errors.UnexpectedStateError(
                f"This PaymentIntent ({intent.id}) does not have a successful charge to refund."
            )
        refund = charge.refund(
            wanted.amount,
            reason=wanted.reason,
            metadata=wanted.metadata,
            now=int(time.time()),
        )
        self._store.save_amount_refunded(charge)
        self._store.add_refund(refund)
        self._announce("refund.created", refund_object(refund))
        self._announce("charge.refunded", charge_object(charge))
        return Answer(refund_object(refund))

    def find_intent(self, intent_id: str, *, status: int = 404) -> PaymentIntent:
        intent = self._store.intent(intent_id)
        if intent is None:
            raise errors.no_such("payment_intent", intent_id, param="intent", status=status)
        return intent

    def show(self, intent: PaymentIntent) -> Json:
        return intent_object(intent, self._public_url)

    def _pay(self, intent: PaymentIntent, attempt: Callable[[int], Charge | None]) -> Answer:
        with self._changing(intent):
            charge = attempt(int(time.time()))
            if charge is not None:
                self._store.add_charge(charge)
        shown = self.show(intent)
        if charge is None:
            return Answer(shown)
        if not charge.paid:
            return Answer({"error": shown["last_payment_error"] | {"payment_intent": shown}}, 402)
        return Answer(shown, withheld=card_of(charge.payment_method).withholds_answer)

    @contextmanager
    def _changing(self, intent: PaymentIntent) -> Generator[None]:
        """Keep what the block changes, and announce the status that comes of it."""
        before = (intent.status, intent.latest_charge)
        try:
            yield
        except errors.UnexpectedStateError as refusal:
            refusal.body["error"]["payment_intent"] = self.show(intent)
            raise
        self._store.save_intent(intent)
        if (intent.status, intent.latest_charge) != before:
            self._announce(EVENT_OF_STATUS[intent.status], self.show(intent))

    def _require_secret(self, intent: PaymentIntent, client_secret: str) -> None:
        if not intent.matches(client_secret):
            raise errors.ApiError(
                "The client_secret provided does not match the PaymentIntent.",
                param="client_secret",
            )

    def _announce(self, event_type: str, data: Json) -> None:
        now = time.time()
        event = event_object(event_type, data, int(now))
        payload = encode(event)
        self._store.add_webhook(
            Webhook(event["id"], payload, created=now, attempts=0), now + self._webhook_delay
        )
