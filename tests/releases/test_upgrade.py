"""From each recorded release upwards, with its data in place.

That the models agree with what the migrations build is tested in `tests/services/test_schema.py`
for a new database; here a database that was upgraded is the same as a new one.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

from chassis.event_log import publish_pending
from chassis.migrate import upgrade
from chassis.tables import new_id
from chassis.testing import StandInSidecar, dead_letters
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

_SCHEMA = {
    "columns": """
        SELECT table_name, column_name, data_type, is_nullable, column_default, is_identity,
               generation_expression
        FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2
    """,
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2
    """,
    "indexes": """
        SELECT tablename, indexname, indexdef FROM pg_indexes
        WHERE schemaname = 'public' ORDER BY 1, 2
    """,
}
_NOTE_EVENT = "INSERT INTO inbox (event_id) VALUES (:id)"
_LOG_EVENT = """
    INSERT INTO event_log (id, topic, key, payload, trace_parent)
    VALUES (:id, 'order.created', 'key', '{}', NULL)
"""
_EVENTS = "SELECT event_id FROM inbox UNION SELECT id FROM event_log"
_SECONDS = 30


async def rows_of(engine: AsyncEngine, table: str, columns: Sequence[str]) -> list[str]:
    query = f"SELECT to_jsonb(t)::text FROM (SELECT {', '.join(columns)} FROM {table}) t"
    async with engine.connect() as connection:
        found = await connection.scalars(text(query))
        return sorted(as_text(json.loads(row)) for row in found)


def as_text(row: Any) -> str:
    return json.dumps(row, sort_keys=True)


async def schema_of(engine: AsyncEngine) -> dict[str, list[tuple[Any, ...]]]:
    async with engine.connect() as connection:
        return {
            kind: [tuple(row) for row in await connection.execute(text(query))]
            for kind, query in _SCHEMA.items()
        }


async def test_no_row_is_lost_or_changed(recording: Any, engine: AsyncEngine) -> None:
    assert recording.tables
    for table, rows in recording.tables.items():
        assert await rows_of(engine, table, list(rows[0])) == sorted(map(as_text, rows)), table


async def test_an_upgraded_schema_is_that_of_a_new_database(
    service: str, engine: AsyncEngine, migrated_databases: Callable[[str], Awaitable[AsyncEngine]]
) -> None:
    assert await schema_of(engine) == await schema_of(await migrated_databases(service))


async def test_the_release_may_go_on_writing(service: str, former: AsyncEngine) -> None:
    """Before, while and after the schema changes: its statements are those of its own time."""
    written: list[UUID] = []
    under_way, migrated = asyncio.Event(), asyncio.Event()

    async def write(statement: str) -> None:
        after = 0
        while after < 3:
            after += migrated.is_set()
            event = new_id()
            async with former.begin() as connection:
                await connection.execute(text(statement), {"id": event})
            written.append(event)
            under_way.set()

    async def migrate() -> None:
        await under_way.wait()
        async with former.begin() as connection:
            await connection.run_sync(upgrade, service)
        migrated.set()

    async with asyncio.timeout(_SECONDS), asyncio.TaskGroup() as group:
        for task in (write(_NOTE_EVENT), write(_LOG_EVENT), migrate()):
            group.create_task(task)

    async with former.connect() as connection:
        kept = set(await connection.scalars(text(_EVENTS)))
    assert kept >= set(written)


async def test_what_was_not_published_is_published(
    db: AsyncConnection, stand_in: StandInSidecar
) -> None:
    forget = """
        UPDATE event_log SET published_at = NULL
        WHERE sequence IN (SELECT sequence FROM event_log ORDER BY sequence DESC LIMIT 5)
        RETURNING id::text
    """
    waiting = set(await db.scalars(text(forget)))
    assert await publish_pending() == len(waiting)
    assert {event["id"] for event in stand_in.published} == waiting


async def test_dead_letters_are_still_at_the_desk(recording: Any, db: AsyncConnection) -> None:
    recorded = recording.tables.get("dead_letters", [])
    letters = {str(letter.id): letter for letter in await dead_letters()}
    assert letters.keys() == {row["id"] for row in recorded}
    for row in recorded:
        assert (letters[row["id"]].reason, letters[row["id"]].topic) == (
            row["reason"],
            row["topic"],
        )
