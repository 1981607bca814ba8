"""Work by the clock: the sidecars' scheduler gives each tick to one replica."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import structlog
from fastapi import APIRouter, Depends

from chassis.identity import require_app_token
from chassis.problems import NotFound
from chassis.sidecar import sidecar
from chassis.worker import Worker

log = structlog.get_logger(__name__)

_RENEWAL_SECONDS = 60.0


@dataclass(frozen=True)
class Job:
    """`run` is called at every tick of `schedule`, such as `@every 15s` or a cron expression."""

    name: str
    schedule: str
    run: Callable[[], Awaitable[object]]
    running: asyncio.Lock = field(default_factory=asyncio.Lock, compare=False)


class UnknownJob(NotFound):
    pass


async def in_batches(step: Callable[[], Awaitable[int]], *, size: int, most: int) -> int:
    """Repeats a step that does `size` at most until it does fewer, `most` times; how many in all.

    What is left over then is the next tick's.
    """
    done = 0
    for _ in range(most):
        count = await step()
        done += count
        if count < size:
            break
    return done


def job_routes(jobs: Sequence[Job]) -> APIRouter:
    """Where the sidecar brings the ticks. One that meets the one before it does nothing."""
    router = APIRouter(include_in_schema=False, dependencies=[Depends(require_app_token)])
    by_name = {job.name: job for job in jobs}

    @router.post("/job/{name}")
    async def tick(name: str) -> None:
        if name not in by_name:
            raise UnknownJob(f"There is no job {name}.")
        job = by_name[name]
        if job.running.locked():
            log.info("job_still_running", job=name)
            return
        async with job.running:
            await job.run()

    return router


def scheduling(jobs: Sequence[Job]) -> Worker:
    """Hands the jobs to the scheduler, and again now and then: it may lose its data."""

    async def schedule() -> int:
        for job in jobs:
            await sidecar.schedule(job.name, job.schedule)
        return 0

    return Worker("scheduling", schedule, poll_seconds=_RENEWAL_SECONDS, interruptible=True)
