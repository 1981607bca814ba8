"""How another `waybill` command talks to the running supervisor: HTTP over a Unix socket."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from http import HTTPStatus

import aiohttp
from aiohttp import web

from waybill.errors import PlatformError
from waybill.project import Project
from waybill.supervisor import Status, Supervisor

_RESTART_SECONDS = 120
_UNREACHABLE = (aiohttp.ClientError, TimeoutError)


@asynccontextmanager
async def serve(
    project: Project, supervisor: Supervisor, stop: asyncio.Event
) -> AsyncGenerator[None]:
    async def status(_: web.Request) -> web.Response:
        return web.Response(
            text=supervisor.status().model_dump_json(), content_type="application/json"
        )

    async def restart(request: web.Request) -> web.Response:
        try:
            await supervisor.restart(request.match_info["name"])
        except PlatformError as failure:
            return web.Response(status=HTTPStatus.CONFLICT, text=str(failure))
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def end(_: web.Request) -> web.Response:
        stop.set()
        return web.Response(status=HTTPStatus.ACCEPTED)

    app = web.Application()
    app.add_routes(
        [
            web.get("/status", status),
            web.post("/restart/{name}", restart),
            web.post("/stop", end),
        ]
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.UnixSite(runner, _socket(project)).start()
        yield
    finally:
        await runner.cleanup()


async def status(project: Project) -> Status | None:
    """None when no supervisor answers."""
    try:
        async with _session(project, seconds=5) as session, session.get("/status") as response:
            return Status.model_validate_json(await response.text())
    except _UNREACHABLE:
        return None


async def restart(project: Project, name: str) -> None:
    """Returns when the process is ready again."""
    try:
        async with (
            _session(project, _RESTART_SECONDS) as session,
            session.post(f"/restart/{name}") as response,
        ):
            if not response.ok:
                raise PlatformError(await response.text())
    except _UNREACHABLE:
        raise PlatformError("The platform is not running.", fix="waybill up") from None


async def stop(project: Project) -> bool:
    """Asks the supervisor to stop everything; False when none answers."""
    try:
        async with _session(project, seconds=5) as session, session.post("/stop"):
            return True
    except _UNREACHABLE:
        return False


def _session(project: Project, seconds: float) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        "http://supervisor",
        connector=aiohttp.UnixConnector(_socket(project)),
        timeout=aiohttp.ClientTimeout(total=seconds),
    )


def _socket(project: Project) -> str:
    """Relative, as a socket's path may have 108 bytes only: the commands run in the checkout."""
    return str((project.state / "supervisor.sock").relative_to(project.root))
