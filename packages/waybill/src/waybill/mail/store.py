"""Keeps the newest messages in SQLite, so that an accepted e-mail outlives the process."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from waybill.mail.message import Content

SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sender TEXT NOT NULL,
    recipients TEXT NOT NULL,
    subject TEXT NOT NULL,
    received_at TEXT NOT NULL,
    text TEXT NOT NULL,
    html TEXT
);
CREATE TABLE IF NOT EXISTS recipients (
    address TEXT NOT NULL COLLATE NOCASE,
    message INTEGER NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    PRIMARY KEY (address, message)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS recipients_by_message ON recipients (message);
"""


@dataclass(frozen=True)
class Message:
    id: int
    sender: str
    recipients: list[str]
    subject: str
    received_at: str
    text: str
    html: str | None


@dataclass(frozen=True)
class Filter:
    """Which messages are meant: sent to an address, containing a text, newer than an id."""

    to: str | None = None
    q: str | None = None
    after: int | None = None

    def terms(self) -> tuple[str, list[object]]:
        terms, values = ["1"], list[object]()
        if self.to is not None:
            terms.append("id IN (SELECT message FROM recipients WHERE address = ?)")
            values.append(self.to)
        if self.q is not None:
            terms.append("instr(lower(subject || char(10) || text), lower(?))")
            values.append(self.q)
        if self.after is not None:
            terms.append("id > ?")
            values.append(self.after)
        return " AND ".join(terms), values


class Store:
    """One connection, used from the event loop's thread only."""

    def __init__(self, directory: Path, keep: int) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._keep = keep
        self._db = sqlite3.connect(directory / "mail.db", isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        # Survives kill -9 of this process; only a power cut could take the last messages.
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA foreign_keys = ON")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        self._db.close()

    def add(self, content: Content, recipients: Sequence[str]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._insert(content, list(recipients))
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _insert(self, content: Content, recipients: list[str]) -> None:
        message_id = self._db.execute(
            "INSERT INTO messages (sender, recipients, subject, received_at, text, html)"
            " VALUES (:sender, :recipients, :subject, :received_at, :text, :html)",
            {
                **vars(content),
                "recipients": json.dumps(recipients),
                "received_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            },
        ).lastrowid
        self._db.executemany(
            "INSERT OR IGNORE INTO recipients VALUES (?, ?)",
            [(address, message_id) for address in recipients],
        )
        self._db.execute(
            "DELETE FROM messages WHERE id <= (SELECT max(id) FROM messages) - ?", (self._keep,)
        )

    def get(self, message_id: int) -> Message | None:
        row = self._db.execute("SELECT * FROM messages WHERE id = ?", (message_id,)).fetchone()
        return _message(row) if row else None

    def find(self, wanted: Filter, limit: int) -> list[Message]:
        """The newest first; after an id, the oldest first, so that a reader misses none."""
        terms, values = wanted.terms()
        order = "DESC" if wanted.after is None else "ASC"
        rows = self._db.execute(
            f"SELECT * FROM messages WHERE {terms} ORDER BY id {order} LIMIT ?",  # noqa: S608  # the terms are literals of this module
            [*values, limit],
        )
        return [_message(row) for row in rows]

    def count(self, wanted: Filter) -> int:
        terms, values = wanted.terms()
        row = self._db.execute(
            f"SELECT count(*) FROM messages WHERE {terms}",  # noqa: S608  # as above
            values,
        ).fetchone()
        return row[0]

    def clear(self) -> None:
        self._db.execute("DELETE FROM messages")


def _message(row: sqlite3.Row) -> Message:
    columns = dict(row)
    return Message(**columns | {"recipients": json.loads(columns["recipients"])})
