"""Reads the sidecar's bulk deliveries; an entry that cannot be read spoils none of the others."""

import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic_core import from_json

from chassis.problems import Problem

_STRING = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_TOKEN = re.compile(rf"{_STRING}|[\[\]{{}}]", re.DOTALL)
_ENTRY_ID = re.compile(rf'"entryId"\s*:\s*({_STRING})')


class Entry(BaseModel):
    """One event of a bulk delivery; `event` is validated alone, so that it fails alone."""

    entryId: str  # noqa: N815  # Dapr's name
    event: Any


class Delivery(BaseModel):
    """The body of a bulk delivery."""

    entries: list[Entry]


class BadDelivery(Problem):
    pass


def entries_of(body: bytes) -> list[Entry]:
    """An event that cannot be read, such as one nested too deep, is its text."""
    try:
        return Delivery.model_validate(from_json(body)).entries
    except ValueError:
        return [_read(entry) for entry in split(body.decode(errors="replace"))]


def _read(entry: Entry) -> Entry:
    try:
        return Entry(entryId=entry.entryId, event=from_json(entry.event))
    except ValueError:
        return entry


def split(body: str) -> list[Entry]:
    """The entries, each with its event's text. Raises `BadDelivery` if they cannot be told apart.

    Text is looked at from left to right, without recursion: it may be nested as deep as it likes.
    """
    entries = _member(body, "entries")
    if entries is None:
        raise BadDelivery("This is no delivery of events.")
    return [_outlined(entries[inner]) for inner in _nested(entries)]


def _outlined(text: str) -> Entry:
    outline = text
    for inner in reversed([*_nested(text)]):
        outline = outline[: inner.start] + outline[inner.stop :]
    found = _ENTRY_ID.search(outline)
    if found is None:
        raise BadDelivery("An entry has no id.")
    return Entry(entryId=from_json(found[1]), event=_member(text, "event") or text)


def _member(text: str, name: str) -> str | None:
    """The array or object of this name in an object."""
    for inner in _nested(text):
        if re.search(rf'"{name}"\s*:\s*$', text[: inner.start]):
            return text[inner]
    return None


def _nested(text: str) -> Iterator[slice]:
    """Where the arrays and objects are that lie directly in an array or object."""
    depth = start = 0
    for token in _TOKEN.finditer(text):
        if token[0] in "[{":
            start = token.start() if depth == 1 else start
            depth += 1
        elif token[0] in "]}":
            depth -= 1
            if depth == 1:
                yield slice(start, token.end())
