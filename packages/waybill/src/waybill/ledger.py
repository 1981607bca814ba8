"""The ledger of whoever drives the platform: every order it asked for, and every answer it got.

It is kept outside the platform, so that an order which the platform acknowledged and then lost
has a witness.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel

from waybill.project import Project


class Asked(BaseModel):
    """One attempt at `POST /orders`; `status` is absent when no answer came."""

    at: datetime
    idempotency_key: str
    status: int | None = None
    order_id: str | None = None

    @property
    def acknowledged(self) -> bool:
        return self.order_id is not None


class Ledger:
    def __init__(self, project: Project) -> None:
        self._path = path_of(project)
        self._path.parent.mkdir(parents=True, exist_ok=True)

    def note(self, idempotency_key: str, status: int | None, order_id: str | None) -> None:
        entry = Asked(
            at=datetime.now(UTC), idempotency_key=idempotency_key, status=status, order_id=order_id
        )
        with self._path.open("a") as file:  # a line that was torn before must not tear this one
            file.write(f"\n{entry.model_dump_json()}\n")


def path_of(project: Project) -> Path:
    return project.state / "ledger.jsonl"


def read(path: Path) -> Iterator[Asked]:
    """A line that was cut short by a crash of the driver is nobody's acknowledgement."""
    for line in path.read_text().splitlines():
        try:
            yield Asked.model_validate(json.loads(line))
        except ValueError:
            continue
