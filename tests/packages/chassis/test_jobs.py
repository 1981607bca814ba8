"""Work by the clock: handed to the scheduler, again when it has lost it, and run at each tick."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from chassis.app import create_app
from chassis.jobs import Job, scheduling
from chassis.settings import settings
from chassis.sidecar import Sidecar, SidecarUnavailable
from chassis.testing import StandInSidecar
from dapr.clients.exceptions import DaprGrpcError
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata


class Work:
    def __init__(self) -> None:
        self.begun = 0
        self.reached = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def __call__(self) -> None:
        self.begun += 1
        self.reached.set()
        await self.may_end.wait()


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
async def service_of(work: Work) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app("test", jobs=[Job("sweep", "@every 15s", work)])
    token = {"dapr-api-token": settings().app_api_token}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://service", headers=token
    ) as http:
        yield http


async def test_a_tick_runs_its_job(service_of: httpx.AsyncClient, work: Work) -> None:
    for _ in range(2):
        assert (await service_of.post("/job/sweep")).status_code == 200
    assert work.begun == 2
    assert (await service_of.post("/job/unheard-of")).status_code == 404


async def test_a_tick_that_meets_the_one_before_does_nothing(
    service_of: httpx.AsyncClient, work: Work
) -> None:
    work.may_end.clear()
    first = asyncio.create_task(service_of.post("/job/sweep"))
    async with asyncio.timeout(5):
        await work.reached.wait()
        assert (await service_of.post("/job/sweep")).status_code == 200
        assert work.begun == 1
        work.may_end.set()
        assert (await first).status_code == 200


async def test_only_the_sidecar_may_tick(service_of: httpx.AsyncClient, work: Work) -> None:
    reply = await service_of.post("/job/sweep", headers={"dapr-api-token": "guess"})
    assert reply.status_code == 403
    assert work.begun == 0


async def test_jobs_are_handed_to_the_scheduler_again_and_again(
    stand_in: StandInSidecar, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.jobs._RENEWAL_SECONDS", 0.01)
    running = asyncio.create_task(scheduling([Job("sweep", "@every 15s", work)]).run())
    try:
        async with asyncio.timeout(5):
            for _ in range(3):
                while not stand_in.schedules:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)  # the worker does not say when it was there
                assert stand_in.schedules == {"sweep": "@every 15s"}
                stand_in.schedules.clear()
    finally:
        running.cancel()


class Scheduler:
    """The SDK's client of a sidecar whose scheduler keeps jobs in a dict."""

    def __init__(self) -> None:
        self.jobs: dict[str, Any] = {}
        self.writes = 0
        self.away = False

    async def get_job(self, name: str) -> Any:
        if self.away or name not in self.jobs:
            raise _error(StatusCode.INTERNAL, "failed to get job")
        return self.jobs[name]

    async def schedule_job(self, job: Any, *, overwrite: bool) -> None:
        if self.away:
            raise _error(StatusCode.UNAVAILABLE, "away")
        assert overwrite
        self.writes += 1
        self.jobs[job.name] = job


def _error(status: StatusCode, said: str) -> DaprGrpcError:
    return DaprGrpcError(AioRpcError(status, Metadata(), Metadata(), said))


async def test_a_job_is_set_once_and_again_only_if_it_was_lost_or_changed() -> None:
    client, scheduler = Sidecar(), Scheduler()
    client._grpc = scheduler  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
    for schedule, writes in (("@every 1h", 1), ("@every 1h", 1), ("@every 2h", 2)):
        await client.schedule("prune", schedule)
        assert (scheduler.writes, scheduler.jobs["prune"].schedule) == (writes, schedule)

    scheduler.jobs.clear()
    await client.schedule("prune", "@every 2h")
    assert scheduler.writes == 3
    scheduler.away = True
    with pytest.raises(SidecarUnavailable):
        await client.schedule("prune", "@every 2h")
