"""What payment intents, charges and refunds are, and the only ways in which they change."""

import hmac
import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from waybill.provider import errors


class IntentStatus(StrEnum):
    REQUIRES_PAYMENT_METHOD = "requires_payment_method"
    REQUIRES_CONFIRMATION = "requires_confirmation"
    REQUIRES_ACTION = "requires_action"
    SUCCEEDED = "succeeded"
    CANCELED = "canceled"

    @property
    def final(self) -> bool:
        return self in {IntentStatus.SUCCEEDED, IntentStatus.CANCELED}


@dataclass(frozen=True)
class Card:
    """How a test card behaves when it is charged."""

    decline_code: str | None = None
    needs_approval: bool = False
    withholds_answer: bool = False


CARDS: Final = {
    "pm_card_ok": Card(),
    "pm_card_declined": Card(decline_code="generic_decline"),
    "pm_card_requires_action": Card(needs_approval=True),
    "pm_card_timeout": Card(withholds_answer=True),
}


def card_of(payment_method: str) -> Card:
    if (card := CARDS.get(payment_method)) is None:
        raise errors.no_such("PaymentMethod", payment_method, param="payment_method")
    return card


def new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(12)}"


@dataclass(frozen=True)
class PaymentError:
    """Why the last attempt to pay failed."""

    type: str
    code: str
    message: str
    payment_method: str
    decline_code: str | None = None
    charge: str | None = None


@dataclass
class Charge:
    """One attempt to take money from a card, whether it got any or not."""

    payment_intent: str
    amount: int
    currency: str
    payment_method: str
    metadata: dict[str, str]
    created: int
    decline_code: str | None = None
    amount_refunded: int = 0
    id: str = field(default_factory=lambda: new_id("ch"))

    @property
    def paid(self) -> bool:
        return self.decline_code is None

    def refund(
        self, amount: int | None, *, reason: str | None, metadata: dict[str, str], now: int
    ) -> "Refund":
        """Give back `amount`, or all that is left; never more than was charged."""
        left = self.amount - self.amount_refunded
        if left == 0:
            raise errors.ApiError(
                f"Charge {self.id} has already been refunded.", code="charge_already_refunded"
            )
        if amount is not None and amount > left:
            raise errors.ApiError(
                f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})",
                param="amount",
            )
        refund = Refund(
            charge=self.id,
            payment_intent=self.payment_intent,
            amount=left if amount is None else amount,
            currency=self.currency,
            reason=reason,
            metadata=metadata,
            created=now,
        )
        self.amount_refunded += refund.amount
        return refund


@dataclass(frozen=True)
class Refund:
    charge: str
    payment_intent: str
    amount: int
    currency: str
    reason: str | None
    metadata: dict[str, str]
    created: int
    id: str = field(default_factory=lambda: new_id("re"))


@dataclass
class PaymentIntent:
    """The wish to collect an amount once, through as many attempts as it takes."""

    id: str
    client_secret: str
    amount: int
    currency: str
    status: IntentStatus
    payment_method: str | None
    description: str | None
    return_url: str | None
    metadata: dict[str, str]
    created: int
    latest_charge: str | None = None
    last_payment_error: PaymentError | None = None
    canceled_at: int | None = None
    cancellation_reason: str | None = None

    @classmethod
    def create(
        cls,
        *,
        amount: int,
        currency: str,
        payment_method: str | None,
        description: str | None,
        return_url: str | None,
        metadata: dict[str, str],
        now: int,
    ) -> "PaymentIntent":
        if payment_method is not None:
            card_of(payment_method)
        intent_id = new_id("pi")
        return cls(
            id=intent_id,
            client_secret=f"{intent_id}_secret_{secrets.token_hex(12)}",
            amount=amount,
            currency=currency,
            status=(
                IntentStatus.REQUIRES_CONFIRMATION
                if payment_method
                else IntentStatus.REQUIRES_PAYMENT_METHOD
            ),
            payment_method=payment_method,
            description=description,
            return_url=return_url,
            metadata=metadata,
            created=now,
        )

    def matches(self, client_secret: str) -> bool:
        return hmac.compare_digest(self.client_secret.encode(), client_secret.encode())

    def confirm(self, payment_method: str | None, now: int) -> Charge | None:
        """Attempt to pay, with another card if one is given; None when approval comes first."""
        self._require_open("confirm")
        method = payment_method or self.payment_method
        if method is None:
            raise errors.UnexpectedStateError(
                "You cannot confirm this PaymentIntent because it's missing a payment method.",
                param="payment_method",
            )
        self.payment_method = method
        self.last_payment_error = None
        if card_of(method).needs_approval:
            self.status = IntentStatus.REQUIRES_ACTION
            return None
        return self._charge(method, now)

    def approve(self, now: int) -> Charge:
        """The customer said yes to the payment that required action."""
        return self._charge(self._awaiting_approval(), now)

    def reject(self) -> None:
        """The customer said no to the payment that required action."""
        self._fail(
            PaymentError(
                type="invalid_request_error",
                code="payment_intent_authentication_failure",
                message="The customer did not approve the payment.",
                payment_method=self._awaiting_approval(),
            )
        )

    def cancel(self, reason: str | None, now: int) -> None:
        self._require_open("cancel")
        self.status = IntentStatus.CANCELED
        self.canceled_at = now
        self.cancellation_reason = reason

    def _charge(self, method: str, now: int) -> Charge:
        charge = Charge(
            payment_intent=self.id,
            amount=self.amount,
            currency=self.currency,
            payment_method=method,
            metadata=self.metadata,
            created=now,
            decline_code=card_of(method).decline_code,
        )
        self.latest_charge = charge.id
        if charge.paid:
            self.status = IntentStatus.SUCCEEDED
        else:
            self._fail(
                PaymentError(
                    type="card_error",
                    code="card_declined",
                    message="Your card was declined.",
                    payment_method=method,
                    decline_code=charge.decline_code,
                    charge=charge.id,
                )
            )
        return charge

    def _awaiting_approval(self) -> str:
        if self.status is not IntentStatus.REQUIRES_ACTION or self.payment_method is None:
            raise errors.UnexpectedStateError("This PaymentIntent is not waiting for an approval.")
        return self.payment_method

    def _fail(self, error: PaymentError) -> None:
        self.status = IntentStatus.REQUIRES_PAYMENT_METHOD
        self.payment_method = None
        self.last_payment_error = error

    def _require_open(self, action: str) -> None:
        if self.status.final:
            raise errors.UnexpectedStateError(
                f"You cannot {action} this PaymentIntent because it has a status of {self.status}."
            )
