"""What is started in which order: infrastructure at once, then every service with its sidecar."""

import asyncio
import shutil

import psutil

from waybill import credentials, leftovers, logs, ports
from waybill.credentials import PlatformSecrets
from waybill.errors import PlatformError, first_failure
from waybill.logs import last_lines
from waybill.parts import apps, control_plane, migrations, postgres, rabbitmq, stand_ins, valkey
from waybill.processes import Supervised
from waybill.progress import Stage
from waybill.project import Project
from waybill.runtime import debian, install
from waybill.runtime.install import DaprRuntime
from waybill.supervisor import Supervisor

_APP_SECONDS = 90
_ALL_APPS_SECONDS = 180


async def start(project: Project, supervisor: Supervisor) -> None:
    """Returns when every part is ready; a PlatformError says which is not, and why."""
    await _clear_the_way(project, supervisor)
    logs.rotate(project)
    shutil.rmtree(project.dapr_logs, ignore_errors=True)
    secrets = credentials.ensure(project)
    with supervisor.board.stage("Dapr runtime") as stage:
        runtime = await install.ensure(stage, project.log("dapr-install"))
    await _infrastructure(project, supervisor, runtime, secrets)
    with supervisor.board.stage("Services and sidecars") as stage:
        await _Apps(project, supervisor, stage).start(runtime, secrets)
    supervisor.keep_alive()


async def _clear_the_way(project: Project, supervisor: Supervisor) -> None:
    """Ends what a killed supervisor left, and refuses to start where others hold our ports."""
    if ended := await asyncio.to_thread(leftovers.end, project):
        supervisor.report(f"Ended {ended} processes that an earlier run had left behind.")
    wanted = ports.needed(project, broker=credentials.external_broker() is None)
    if conflicts := ports.conflicts(wanted):
        message = "\n".join(f"{conflict}: {conflict.fix}." for conflict in conflicts)
        raise PlatformError(message, fix="free these ports and start again")


async def _infrastructure(
    project: Project, supervisor: Supervisor, runtime: DaprRuntime, secrets: PlatformSecrets
) -> None:
    parts = {
        "Valkey": valkey.process(project, secrets),
        "Mail sink": stand_ins.mail_sink(project, secrets),
        "Payment provider": stand_ins.payment_provider(project, secrets),
    }
    with first_failure():
        async with asyncio.TaskGroup() as group:
            group.create_task(_database(project, supervisor, secrets))
            group.create_task(_broker(project, supervisor, secrets))
            group.create_task(_control_plane(project, supervisor, runtime))
            for title, process in parts.items():
                group.create_task(_part(supervisor, title, process))


async def _database(project: Project, supervisor: Supervisor, secrets: PlatformSecrets) -> None:
    with supervisor.board.stage("PostgreSQL"):
        cluster = postgres.locate(project)
        await postgres.initialise(project, cluster, secrets)
        await supervisor.bring_up(postgres.process(project, cluster, secrets))
        await postgres.provision(secrets, project.databases)
    with supervisor.board.stage("Migrations") as stage:
        pending = await migrations.pending(project, secrets)
        stage.detail = ", ".join(pending) or "nothing to do"
        with first_failure():
            await migrations.migrate_all(project, secrets, pending)


async def _broker(project: Project, supervisor: Supervisor, secrets: PlatformSecrets) -> None:
    if credentials.external_broker() is not None:
        return
    with supervisor.board.stage("RabbitMQ") as stage:
        if rabbitmq.find_server() is None:
            stage.detail = f"installing the package {rabbitmq.PACKAGE}"
            await debian.install([rabbitmq.PACKAGE], project.root, project.log("apt"))
            stage.detail = ""
        epmd, node = rabbitmq.processes(project, secrets)
        await supervisor.bring_up(epmd)
        await supervisor.bring_up(node)


async def _control_plane(project: Project, supervisor: Supervisor, runtime: DaprRuntime) -> None:
    """Sentry first: it makes the certificates that the others and every sidecar trust."""
    with supervisor.board.stage("Dapr control plane"):
        await supervisor.bring_up(control_plane.sentry(project, runtime))
        placement = supervisor.bring_up(control_plane.placement(project, runtime))
        scheduler = supervisor.bring_up(control_plane.scheduler(project, runtime))
        with first_failure():
            async with asyncio.TaskGroup() as group:
                group.create_task(placement)
                group.create_task(scheduler)


async def _part(supervisor: Supervisor, title: str, process: Supervised) -> None:
    with supervisor.board.stage(title):
        await supervisor.bring_up(process)


class _Apps:
    """Runs `dapr run -f` and adopts each of its children as soon as it shows."""

    def __init__(self, project: Project, supervisor: Supervisor, stage: Stage) -> None:
        self._project = project
        self._supervisor = supervisor
        self._stage = stage
        self._expected = apps.expected(project)
        self._waiting = set(self._expected)

    async def start(self, runtime: DaprRuntime, secrets: PlatformSecrets) -> None:
        with first_failure():
            async with asyncio.TaskGroup() as group:

                async def adopted() -> bool:
                    for name, child in apps.running(cli):
                        if name not in self._supervisor:
                            group.create_task(self._settle(self._adopt(name, child)))
                    return self._all_adopted()

                cli = apps.dapr_run(self._project, runtime, secrets, adopted)
                await self._supervisor.bring_up(cli, _ALL_APPS_SECONDS)

    def _adopt(self, name: str, child: psutil.Process) -> Supervised:
        try:
            process = apps.supervised(self._project, name, child)
            process.adopt(child.pid)
        except (psutil.Error, ProcessLookupError):
            raise self._died_at_once(name) from None
        self._supervisor.add(process)
        apps.show_log(self._project, name)
        return process

    async def _settle(self, process: Supervised) -> None:
        await process.wait_ready(_APP_SECONDS)
        self._waiting.discard(process.name)
        ready = len(self._expected) - len(self._waiting)
        self._stage.detail = f"{ready} of {len(self._expected)} ready"

    def _all_adopted(self) -> bool:
        missing = [name for name in self._expected if name not in self._supervisor]
        if dead := apps.passed_over(self._project, missing):
            raise self._died_at_once(dead)
        return not missing

    def _died_at_once(self, name: str) -> PlatformError:
        apps.show_log(self._project, name)
        log = self._project.log(name)
        return PlatformError(
            f"{name} ended as soon as it started. The end of {log}:\n{last_lines(log)}"
        )
