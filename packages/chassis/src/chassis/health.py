"""Health, readiness and metrics of a service."""

from contextlib import suppress

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest
from sqlalchemy import func, select

from chassis import drain
from chassis.database import database
from chassis.desk import IS_OPEN
from chassis.probe import Probe
from chassis.problems import Unavailable
from chassis.sidecar import sidecar
from chassis.tables import LoggedEvent

OUTBOX_DEPTH = Gauge("outbox_depth", "Events committed and not yet published.")
OUTBOX_AGE = Gauge("outbox_age_seconds", "Age of the oldest unpublished event.")
DEAD_LETTERS = Gauge("dead_letters", "Events at the dead-letter desk that nobody decided on.")


def health_routes(*, has_database: bool) -> APIRouter:
    """`/live` is this process; `/health` is its database too; `/ready` is the sidecar as well.

    Who restarts a process for want of an answer asks the first: a new one would have no better
    database. A process that was told to stop is not ready any more. Whatever hangs, an answer
    takes no longer than a probe's patience for each of the two.
    """
    router = APIRouter(include_in_schema=False)
    database_answers = Probe("database", database.ping)
    sidecar_is_ready = Probe("sidecar", _require_sidecar)
    backlog_is_measured = Probe("database", _measure_backlog)

    @router.get("/live")
    async def live() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/health")
    async def health() -> dict[str, str]:
        if has_database:
            await database_answers.ask()
        return {"status": "ok"}

    @router.get("/ready")
    async def ready() -> dict[str, str]:
        if drain.has_begun():
            raise Unavailable("The service is stopping.")
        await sidecar_is_ready.ask()
        return await health()

    @router.get("/metrics")
    async def metrics() -> Response:
        if has_database:
            with suppress(Unavailable):  # then the gauges of the database keep what they showed
                await backlog_is_measured.ask()
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router


async def _require_sidecar() -> None:
    if not await sidecar.is_ready():
        raise Unavailable("The sidecar is not ready.")


async def _measure_backlog() -> None:
    oldest = func.extract("epoch", func.now() - func.min(LoggedEvent.created_at))
    waiting = select(func.count(), oldest).where(LoggedEvent.published_at.is_(None))
    async with database.transaction() as session:
        depth, age = (await session.execute(waiting)).one()
        letters = await session.scalar(select(func.count()).where(IS_OPEN))
    OUTBOX_DEPTH.set(depth)
    OUTBOX_AGE.set(float(age or 0))
    DEAD_LETTERS.set(letters or 0)
