"""The factory of every service's FastAPI application."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from fastapi import APIRouter, FastAPI
from fastapi_swagger import patch_fastapi

from chassis.admission import Admission
from chassis.consumer import Subscriptions, event_routes
from chassis.database import database
from chassis.dead_letters import subscribe_to_dead_letters
from chassis.desk import Desk, desk_routes
from chassis.event_history import history_routes
from chassis.event_log import relay
from chassis.health import health_routes
from chassis.jobs import Job, job_routes, scheduling
from chassis.limits import BodyLimit
from chassis.problems import install_problem_handlers
from chassis.pruning import pruning
from chassis.reconciliation import Reconciliation
from chassis.replay import NO_READ_MODELS, ReadModels
from chassis.settings import settings
from chassis.sidecar import sidecar
from chassis.telemetry import Telemetry, set_up_telemetry
from chassis.worker import Worker, at_work

Lifespan = Callable[[], AbstractAsyncContextManager[None]]


def create_app(
    name: str,
    *,
    routers: Sequence[APIRouter] = (),
    subscriptions: Subscriptions | None = None,
    workers: Sequence[Worker] = (),
    jobs: Sequence[Job] = (),
    read_models: ReadModels = NO_READ_MODELS,
    lifespan: Lifespan | None = None,
    docs: bool = True,
) -> FastAPI:
    """Assembles a service: its routes, its subscriptions and its background work.

    A service has a database if its environment names one. `lifespan` runs inside that of the
    database and the sidecar, so it may use both, and ends before them. `read_models` are built anew
    by a replay. `docs` serves a page of the routes at `/docs`, from assets of our own: it works
    without the internet.
    """
    has_database = bool(settings().database_url)
    reconciliation = Reconciliation(name, subscriptions or {}, read_models)
    all_jobs = [
        *([pruning] if has_database else []),
        *([reconciliation.job] if subscriptions else []),
        *jobs,
    ]
    running = [*([scheduling(all_jobs)] if all_jobs else []), *workers]

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncGenerator[None]:
        set_up_telemetry(name)
        async with AsyncExitStack() as stack:
            if has_database:
                database.connect(name)
                stack.push_async_callback(database.close)
            await stack.enter_async_context(sidecar.connected())
            # Before the others, so that it ends after them: it publishes what they leave.
            await stack.enter_async_context(at_work([relay] if has_database else []))
            if lifespan:
                await stack.enter_async_context(lifespan())
            await stack.enter_async_context(at_work(running))
            yield

    app = FastAPI(
        title=name,
        version="1",
        lifespan=life,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        # The chassis traces and counts each request already.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    if docs:
        patch_fastapi(app, redirect_from_root_to_docs=False)
    install_problem_handlers(app)
    app.include_router(health_routes(has_database=has_database))
    for router in routers:
        app.include_router(router)
    if has_database:
        app.include_router(history_routes(name))
    if subscriptions:
        app.include_router(event_routes(subscriptions))
        app.include_router(reconciliation.routes())
        subscribe_to_dead_letters(app, name)
        app.include_router(desk_routes(Desk(name, subscriptions)))
    if all_jobs:
        app.include_router(job_routes(all_jobs))
    app.add_middleware(BodyLimit)
    app.add_middleware(Admission)
    app.add_middleware(Telemetry)
    return app
