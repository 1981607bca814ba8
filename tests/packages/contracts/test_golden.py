"""The events' wire format: an accidental change of it fails here.

A deliberate, additive one is recorded in the golden file by hand; anything else is a new topic.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from contracts import ALL_EVENTS, Event
from pydantic import ValidationError

GOLDEN = Path(__file__).parent / "golden"
for_each_event = pytest.mark.parametrize("event", ALL_EVENTS, ids=lambda event: event.topic)


def golden(event: type[Event]) -> dict[str, Any]:
    return json.loads((GOLDEN / f"{event.topic}.json").read_text())


@for_each_event
def test_the_golden_event_is_read_and_written_unchanged(event: type[Event]) -> None:
    recorded = golden(event)
    assert event.model_validate(recorded).model_dump(mode="json") == recorded


@for_each_event
def test_the_golden_event_shows_every_field(event: type[Event]) -> None:
    assert set(golden(event)) == set(event.model_fields)


@for_each_event
def test_an_unknown_field_is_ignored_so_that_producers_may_add_one(event: type[Event]) -> None:
    assert event.model_validate({**golden(event), "new": 1}) == event.model_validate(golden(event))


@for_each_event
def test_an_event_cannot_be_changed(event: type[Event]) -> None:
    happened = event.model_validate(golden(event))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(happened, event.key_field, None)


@for_each_event
def test_the_key_names_what_it_happened_to(event: type[Event]) -> None:
    recorded = golden(event)
    assert event.model_validate(recorded).key == str(recorded[event.key_field])


def test_every_topic_has_one_event_and_one_golden_file() -> None:
    topics = [event.topic for event in ALL_EVENTS]
    assert len(set(topics)) == len(topics)
    assert {path.stem for path in GOLDEN.iterdir()} == set(topics)
