"""Keeps the provider's records in SQLite, so that what was acknowledged outlives the process."""

import json
import sqlite3
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Generic, TypeVar

from waybill.provider.errors import no_such
from waybill.provider.model import Charge, IntentStatus, PaymentError, PaymentIntent, Refund

T = TypeVar("T")

Condition = tuple[str, tuple[str, ...]]


@dataclass(frozen=True)
class Page(Generic[T]):
    items: list[T]
    has_more: bool


@dataclass(frozen=True)
class StoredAnswer:
    fingerprint: str
    status: int
    body: str


@dataclass(frozen=True)
class Webhook:
    """An event that is still to be delivered."""

    id: str
    payload: str
    created: float
    attempts: int


class Store:
    """One connection, used from the event loop's thread only.

    A statement takes tens of microseconds, less than handing it to a thread would; and with no
    `await` inside a transaction none of them ever waits for another.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._db = sqlite3.connect(directory / "provider.db", isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        # A commit is in the operating system's hands: it survives kill -9 of this process, which
        # is what can happen here. FULL would survive a power cut too, for an fsync per charge.
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA foreign_keys = ON")
        self._db.executescript(files("waybill.provider").joinpath("schema.sql").read_text())

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def transaction(self) -> Generator[None]:
        """All or nothing; never held across an `await`."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # Payment intents

    def add_intent(self, intent: PaymentIntent) -> None:
        self._insert("payment_intents", _columns_of_intent(intent))
        self._db.executemany(
            "INSERT INTO intent_metadata VALUES (?, ?, ?)",
            [(key, value, intent.id) for key, value in intent.metadata.items()],
        )

    def save_intent(self, intent: PaymentIntent) -> None:
        self._db.execute(
            "UPDATE payment_intents SET status = :status, payment_method = :payment_method,"
            " return_url = :return_url, latest_charge = :latest_charge,"
            " last_payment_error = :last_payment_error, canceled_at = :canceled_at,"
            " cancellation_reason = :cancellation_reason WHERE id = :id",
            _columns_of_intent(intent),
        )

    def intent(self, intent_id: str) -> PaymentIntent | None:
        row = self._one("SELECT * FROM payment_intents WHERE id = ?", intent_id)
        return _intent(row) if row else None

    def intents(self, *, limit: int, after: str | None) -> Page[PaymentIntent]:
        page = self._page("payment_intents", [], limit, after)
        return Page([_intent(row) for row in page.items], page.has_more)

    def search_intents(
        self, metadata: Mapping[str, str], *, status: str | None, limit: int, after: str | None
    ) -> Page[PaymentIntent]:
        conditions: list[Condition] = [
            ("id IN (SELECT payment_intent FROM intent_metadata WHERE key = ? AND value = ?)", pair)
            for pair in metadata.items()
        ]
        if status is not None:
            conditions.append(("status = ?", (status,)))
        page = self._page("payment_intents", conditions, limit, after)
        return Page([_intent(row) for row in page.items], page.has_more)

    # Charges and refunds

    def add_charge(self, charge: Charge) -> None:
        self._insert("charges", vars(charge) | {"metadata": json.dumps(charge.metadata)})

    def save_amount_refunded(self, charge: Charge) -> None:
        self._db.execute(
            "UPDATE charges SET amount_refunded = ? WHERE id = ?",
            (charge.amount_refunded, charge.id),
        )

    def paid_charge_of(self, intent_id: str) -> Charge | None:
        row = self._one(
            "SELECT * FROM charges WHERE payment_intent = ? AND decline_code IS NULL", intent_id
        )
        return _charge(row) if row else None

    def charges(self, *, intent_id: str | None, limit: int, after: str | None) -> Page[Charge]:
        page = self._page("charges", _of_intent(intent_id), limit, after)
        return Page([_charge(row) for row in page.items], page.has_more)

    def add_refund(self, refund: Refund) -> None:
        self._insert("refunds", vars(refund) | {"metadata": json.dumps(refund.metadata)})

    def refund(self, refund_id: str) -> Refund | None:
        row = self._one("SELECT * FROM refunds WHERE id = ?", refund_id)
        return _refund(row) if row else None

    def refunds(self, *, intent_id: str | None, limit: int, after: str | None) -> Page[Refund]:
        page = self._page("refunds", _of_intent(intent_id), limit, after)
        return Page([_refund(row) for row in page.items], page.has_more)

    # Idempotency keys

    def stored_answer(self, key: str, since: float) -> StoredAnswer | None:
        row = self._db.execute(
            "SELECT fingerprint, status, body FROM idempotency_keys WHERE key = ? AND created >= ?",
            (key, since),
        ).fetchone()
        return StoredAnswer(**dict(row)) if row else None

    def store_answer(self, key: str, answer: StoredAnswer, now: float) -> None:
        self._insert("idempotency_keys", {"key": key, **vars(answer), "created": now})

    def forget_answers_before(self, created: float) -> None:
        self._db.execute("DELETE FROM idempotency_keys WHERE created < ?", (created,))

    # Webhooks

    def add_webhook(self, webhook: Webhook, next_attempt_at: float) -> None:
        self._insert("webhooks", vars(webhook) | {"next_attempt_at": next_attempt_at})

    def due_webhooks(self, now: float, limit: int) -> list[Webhook]:
        rows = self._db.execute(
            "SELECT id, payload, created, attempts FROM webhooks WHERE next_attempt_at <= ?"
            " ORDER BY next_attempt_at LIMIT ?",
            (now, limit),
        )
        return [Webhook(**dict(row)) for row in rows]

    def next_webhook_after(self, now: float) -> float | None:
        row = self._db.execute(
            "SELECT min(next_attempt_at) FROM webhooks WHERE next_attempt_at > ?", (now,)
        ).fetchone()
        return row[0]

    def postpone_webhook(self, webhook_id: str, next_attempt_at: float) -> None:
        self._db.execute(
            "UPDATE webhooks SET attempts = attempts + 1, next_attempt_at = ? WHERE id = ?",
            (next_attempt_at, webhook_id),
        )

    def remove_webhook(self, webhook_id: str) -> None:
        self._db.execute("DELETE FROM webhooks WHERE id = ?", (webhook_id,))

    def pending_webhooks(self) -> int:
        return self._db.execute("SELECT count(*) FROM webhooks").fetchone()[0]

    # Table names, columns and conditions below are literals of this module; every value is bound.

    def _insert(self, table: str, values: Mapping[str, object]) -> None:
        marks = ", ".join(f":{name}" for name in values)
        self._db.execute(
            f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})",  # noqa: S608  # see above
            values,
        )

    def _one(self, query: str, key: str) -> sqlite3.Row | None:
        return self._db.execute(query, (key,)).fetchone()

    def _page(
        self, table: str, conditions: Sequence[Condition], limit: int, after: str | None
    ) -> Page[sqlite3.Row]:
        """The newest rows that meet the conditions, or the newest of those older than `after`."""
        terms = ["1", *(term for term, _ in conditions)]
        values: list[object] = [value for _, group in conditions for value in group]
        if after is not None:
            terms.append("seq < ?")
            values.append(self._sequence(table, after))
        rows = self._db.execute(
            f"SELECT * FROM {table} WHERE {' AND '.join(terms)} ORDER BY seq DESC LIMIT ?",  # noqa: S608  # see above
            [*values, limit + 1],
        ).fetchall()
        return Page(rows[:limit], has_more=len(rows) > limit)

    def _sequence(self, table: str, object_id: str) -> int:
        row = self._one(f"SELECT seq FROM {table} WHERE id = ?", object_id)  # noqa: S608  # see above
        if row is None:
            raise no_such("object", object_id, param="starting_after")
        return row["seq"]


def _of_intent(intent_id: str | None) -> list[Condition]:
    return [] if intent_id is None else [("payment_intent = ?", (intent_id,))]


def _columns_of_intent(intent: PaymentIntent) -> Mapping[str, object]:
    error = intent.last_payment_error
    return vars(intent) | {
        "metadata": json.dumps(intent.metadata),
        "last_payment_error": json.dumps(vars(error)) if error else None,
    }


def _intent(row: sqlite3.Row) -> PaymentIntent:
    columns = _without_sequence(row)
    error = columns["last_payment_error"]
    columns["status"] = IntentStatus(columns["status"])
    columns["last_payment_error"] = PaymentError(**json.loads(error)) if error else None
    return PaymentIntent(**columns)


def _charge(row: sqlite3.Row) -> Charge:
    return Charge(**_without_sequence(row))


def _refund(row: sqlite3.Row) -> Refund:
    return Refund(**_without_sequence(row))


def _without_sequence(row: sqlite3.Row) -> dict[str, Any]:
    columns = dict(row)
    del columns["seq"]
    columns["metadata"] = json.loads(columns["metadata"])
    return columns
