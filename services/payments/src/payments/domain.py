"""The payment: what is to be charged, what the provider took, and what is owed back."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid5

from chassis.problems import Conflict
from chassis.tables import Base, first_id_at, new_id
from contracts.payments import PaymentEvent, PaymentFailed, PaymentRefunded, PaymentSucceeded
from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from payments.reports import Intent, RefundReport


class PaymentStatus(StrEnum):
    PENDING = "pending"
    PROCESSING = "processing"
    REQUIRES_ACTION = "requires_action"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REFUNDED = "refunded"


class RefundStatus(StrEnum):
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


S = PaymentStatus
UNDECIDED = frozenset({S.PENDING, S.PROCESSING, S.REQUIRES_ACTION})

LEASE = timedelta(seconds=60)  # longer than any call takes: the sidecar client gives up after 30
FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(seconds=60)
# The provider forgets an idempotency key after 24 hours, and would take the request for a new one.
KEY_LIFETIME = timedelta(hours=12)


class NothingToConfirm(Conflict):
    pass


class RefundTooLarge(Conflict):
    pass


class Due:
    """Work that lies in a table: somebody takes it at `due_at`; nobody does while that is null."""

    due_at: Mapped[datetime | None]
    tries: Mapped[int] = mapped_column(server_default="0")

    def is_due(self, now: datetime) -> bool:
        return self.due_at is not None and self.due_at <= now

    def claim(self, now: datetime) -> None:
        """Takes the work for as long as a call lasts; after a crash it is due again."""
        self.tries += 1
        self.due_at = now + LEASE

    def postpone(self, lease: datetime | None, now: datetime) -> None:
        """The work is to be tried again, later each time; not if `lease` is no longer its claim."""
        if self.due_at is not None and self.due_at == lease:
            growing = FIRST_PAUSE * 2 ** min(self.tries - 1, 10)
            self.due_at = now + min(growing, LONGEST_PAUSE)

    def rest(self) -> None:
        self.due_at = None
        self.tries = 0


def payment_id_of(order_id: UUID) -> UUID:
    """As old as the order's id, and the same again in a database that was restored.

    The keys that the provider knows a payment's requests by are made from it.
    """
    low = (1 << 64) - 1
    return UUID(int=(order_id.int & ~low) | (uuid5(order_id, "payment").int & low))


class Payment(Due, Base):
    """The one payment of an order.

    What the order's events say is merged into `user_id` … `cancelled_at`, in any order. `status`
    and `due_at` alone decide what happens next. `captured` is what the provider took, `refunded`
    what it gave back, and `refunding` what refunds give back, whether they are done or under way.
    """

    __tablename__ = "payments"
    __table_args__ = (
        CheckConstraint("refunded <= refunding AND refunding <= captured", name="refunds_covered"),
        Index("ix_payments_user_id_id", "user_id", "id"),
        Index("ix_payments_due_at", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    order_id: Mapped[UUID] = mapped_column(unique=True)
    user_id: Mapped[UUID | None]
    amount: Mapped[int | None] = mapped_column(BigInteger)
    currency: Mapped[str | None]
    payment_method: Mapped[str | None]
    reserved_at: Mapped[datetime | None]
    cancelled_at: Mapped[datetime | None]
    trace_parent: Mapped[str | None]

    status: Mapped[str] = mapped_column(server_default=S.PENDING)
    intent_id: Mapped[str | None]
    client_secret: Mapped[str | None]
    failure_reason: Mapped[str | None]
    captured: Mapped[int] = mapped_column(BigInteger, server_default="0")
    refunding: Mapped[int] = mapped_column(BigInteger, server_default="0")
    refunded: Mapped[int] = mapped_column(BigInteger, server_default="0")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    decided_at: Mapped[datetime | None]

    attempts: Mapped[list["Attempt"]] = relationship(order_by="Attempt.number", lazy="raise")

    @property
    def is_unwanted(self) -> bool:
        """The order is cancelled: nothing may be charged, and what was goes back."""
        return self.cancelled_at is not None

    @property
    def is_complete(self) -> bool:
        return self.amount is not None and self.reserved_at is not None

    @property
    def refundable(self) -> int:
        return self.captured - self.refunding

    def may_have_been_forgotten(self, now: datetime) -> bool:
        """So old that a database which was restored since may lack an attempt, and the provider
        its key.
        """
        return self.id < first_id_at(now - KEY_LIFETIME)

    def proceed(self, now: datetime) -> PaymentEvent | None:
        """Takes the step that the known facts allow; a decided payment repeats its outcome."""
        if self.status != S.PENDING:
            return self._outcome()
        if self.is_complete and self.due_at is None:
            self.due_at = now
        return None

    def cancel(self, now: datetime) -> None:
        """The order was cancelled; an attempt under way decides for itself what is to be undone."""
        if self.status == S.PENDING:
            self._decide(S.CANCELLED, now)
        elif self.status == S.REQUIRES_ACTION and self.due_at is None:
            self.due_at = now

    def begin(self, now: datetime) -> None:
        """Claims the payment for a call to the provider, of which the attempt is the record."""
        self.claim(now)
        if self.status == S.PENDING:
            self.status = S.PROCESSING
            self._add_attempt(now)

    def confirm(self, now: datetime) -> None:
        """The customer did what the bank had asked for; raises `NothingToConfirm`."""
        if self.status != S.REQUIRES_ACTION or self.is_unwanted:
            raise NothingToConfirm(f"The payment is {self.status}; nothing waits for the customer.")
        self.status = S.PROCESSING
        self.due_at = now
        self._add_attempt(now)

    def learn(self, intent: Intent, now: datetime, attempt: int = 1) -> PaymentEvent | None:
        """Takes in what the provider says, however late or often; returns the event it leads to.

        `attempt` is the number of the attempt that this answers. A webhook names none: the one
        demand for the customer's action that it can be the first to tell of is that of attempt 1.
        """
        self.intent_id = intent.id
        match intent.status:
            case "succeeded":
                return self._capture(intent.amount_received, now)
            case "canceled":
                return self._close(now)
            case "requires_payment_method" if intent.last_payment_error:
                return self.fail(intent.last_payment_error.code or "declined", now)
            case "requires_action" if attempt == len(self.attempts):
                self._await_customer(intent, now)
            case _:
                pass  # still open at the provider: the next call will tell
        return None

    def fail(self, reason: str, now: datetime) -> PaymentEvent | None:
        if self.status not in UNDECIDED:
            return None
        self.failure_reason = reason
        self._decide(S.FAILED, now)
        return self._outcome()

    def refund(
        self, amount: int | None, reason: str | None, now: datetime, refund_id: UUID | None = None
    ) -> "Refund":
        """Sets `amount`, or all that is left, aside to be given back; raises `RefundTooLarge`."""
        wanted = self.refundable if amount is None else amount
        if not 0 < wanted <= self.refundable:
            raise RefundTooLarge(f"{self.refundable} can be refunded.", refundable=self.refundable)
        self.refunding += wanted
        return Refund(
            id=refund_id or new_id(),
            payment_id=self.id,
            amount=wanted,
            reason=reason,
            status=RefundStatus.PENDING,
            created_at=now,
            due_at=now,
            tries=0,
        )

    @property
    def is_owed_back(self) -> bool:
        """The order does not stand, and some of its money is not on its way back yet."""
        stands = not self.is_unwanted and self.status not in {S.FAILED, S.CANCELLED}
        return not stands and self.refundable > 0

    def compensate(self, refunds_before: int, now: datetime) -> "Refund":
        """Gives back all that is left; `refunds_before` counts those of any outcome.

        The id follows from it: one that is forgotten by a restored database, and not by the
        provider, is made again as the same.
        """
        refund_id = uuid5(self.id, f"compensation:{refunds_before}")
        return self.refund(None, "order cancelled", now, refund_id)

    def learn_of_refund(
        self, refund: "Refund", report: RefundReport, now: datetime
    ) -> PaymentRefunded | None:
        """As `learn`, for one of this payment's refunds."""
        refund.provider_id = report.id
        match report.status:
            case "succeeded" if refund.status == RefundStatus.PENDING:
                return self._give_back(refund, now)
            case "failed" | "canceled":
                self.fail_refund(refund, report.failure_reason or report.status, now)
            case _:
                pass
        return None

    def fail_refund(self, refund: "Refund", reason: str, now: datetime) -> None:
        """The provider will not give this back; a person must see to it."""
        if refund.status == RefundStatus.PENDING:
            self.refunding -= refund.amount
            refund.end(RefundStatus.FAILED, now, reason)

    def refunded_event(self, refund: "Refund") -> PaymentRefunded:
        return PaymentRefunded(
            **self._stamp(refund.decided_at, refund.amount),
            refunded_total=refund.refunded_total,
            refund_id=refund.id,
        )

    def _give_back(self, refund: "Refund", now: datetime) -> PaymentRefunded:
        refund.end(RefundStatus.SUCCEEDED, now)
        self.refunded += refund.amount
        refund.refunded_total = self.refunded
        if self.refunded == self.captured:
            self.status = S.REFUNDED
        return self.refunded_event(refund)

    def _capture(self, amount: int, now: datetime) -> PaymentEvent | None:
        self.captured = amount
        if self.status not in UNDECIDED:
            return None  # too late: `compensate` returns it
        self._decide(S.SUCCEEDED, now)
        return self._outcome()

    def _close(self, now: datetime) -> PaymentEvent | None:
        if not self.is_unwanted:
            return self.fail("canceled", now)
        if self.status in UNDECIDED:
            self._decide(S.CANCELLED, now)
        return None

    def _await_customer(self, intent: Intent, now: datetime) -> None:
        if self.status != S.PROCESSING:
            return
        self.status = S.REQUIRES_ACTION
        self.client_secret = intent.client_secret
        self.attempts[-1].end(self.status, now)
        if not self.is_unwanted:
            self.rest()

    def _decide(self, status: PaymentStatus, now: datetime) -> None:
        if self.status == S.PROCESSING:
            self.attempts[-1].end(status, now)
        self.status = status
        self.decided_at = now
        self.client_secret = None
        self.rest()

    def _add_attempt(self, now: datetime) -> None:
        self.attempts.append(Attempt(number=len(self.attempts) + 1, started_at=now))

    def _outcome(self) -> PaymentEvent | None:
        if self.failure_reason:
            return PaymentFailed(
                **self._stamp(self.decided_at, self.amount), reason=self.failure_reason
            )
        if self.status in {S.SUCCEEDED, S.REFUNDED}:
            return PaymentSucceeded(**self._stamp(self.decided_at, self.amount))
        return None

    def _stamp(self, occurred_at: datetime | None, amount: int | None) -> dict[str, Any]:
        return {
            "payment_id": self.id,
            "order_id": self.order_id,
            "user_id": self.user_id,
            "amount": amount,
            "currency": self.currency,
            "occurred_at": occurred_at,
        }


class Attempt(Base):
    """A request for the customer's money, committed before it is made.

    The first one charges; further ones confirm what that one had to leave to the customer. One
    that was answered is not made again: under its key the provider only repeats that answer.
    """

    __tablename__ = "payment_attempts"

    payment_id: Mapped[UUID] = mapped_column(ForeignKey(Payment.id), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    started_at: Mapped[datetime]
    answered_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None]

    @property
    def idempotency_key(self) -> str:
        return f"payment:{self.payment_id}:{self.number}"

    def key_may_be_forgotten(self, now: datetime) -> bool:
        return now - self.started_at > KEY_LIFETIME

    def end(self, outcome: str, now: datetime) -> None:
        self.outcome = outcome
        self.ended_at = now


class Refund(Due, Base):
    """Money on its way back, committed before the provider is asked for it.

    `refunded_total` is what the payment's refunds had given back when this one was done.
    """

    __tablename__ = "refunds"
    __table_args__ = (
        CheckConstraint("amount > 0", name="amount_positive"),
        Index("ix_refunds_due_at", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    payment_id: Mapped[UUID] = mapped_column(ForeignKey(Payment.id), index=True)
    amount: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str | None]
    status: Mapped[str]
    provider_id: Mapped[str | None]
    failure_reason: Mapped[str | None]
    refunded_total: Mapped[int] = mapped_column(BigInteger, server_default="0")
    created_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]

    payment: Mapped[Payment] = relationship(lazy="raise")

    @property
    def idempotency_key(self) -> str:
        return f"refund:{self.id}"

    def key_may_be_forgotten(self, now: datetime) -> bool:
        return now - self.created_at > KEY_LIFETIME

    def end(self, status: RefundStatus, now: datetime, failure_reason: str | None = None) -> None:
        self.status = status
        self.failure_reason = failure_reason
        self.decided_at = now
        self.rest()


class ProviderEvent(Base):
    """A webhook whose effect is in this database."""

    __tablename__ = "provider_events"

    id: Mapped[str] = mapped_column(primary_key=True)
    received_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
