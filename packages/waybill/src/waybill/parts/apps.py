"""The apps and their sidecars: started by `dapr run -f`, then held one by one.

`dapr run -f` starts everything once and restarts nothing, and its stop is a SIGKILL. So once its
children are up, each is adopted with the command line, directory and environment it really has.
"""

import os
import signal
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from waybill import leftovers, logs
from waybill.credentials import PlatformSecrets
from waybill.parts import control_plane
from waybill.ports import HOST
from waybill.processes import Command, Layer, Supervised
from waybill.project import Project
from waybill.runtime.install import DaprRuntime
from waybill.waiting import Condition, answers

_SIDECAR = "-daprd"

_DAPRD = """\
#!/bin/sh
# `dapr run -f` has no options for these. By default the first two are every interface, and the
# third is a port among those that the system gives to outgoing connections.
exec '{daprd}' "$@" \\
    --metrics-listen-address {host} \\
    --dapr-internal-grpc-listen-address {host} \\
    --sentry-address {sentry} \\
    --dapr-graceful-shutdown-seconds 3
"""


def dapr_run(
    project: Project, runtime: DaprRuntime, secrets: PlatformSecrets, adopted: Condition
) -> Supervised:
    """Starts every app of the run file with its sidecar; ready once all of them are `adopted`."""
    command = Command(
        argv=[str(runtime.cli), "run", "-f", str(project.run_file)],
        cwd=project.root,
        env={
            **os.environ,
            **leftovers.marks(project),
            "DAPR_RUNTIME_PATH": str(_runtime_path(project, runtime)),
            "DAPR_HOST_IP": HOST,
            "DAPR_API_TOKEN": secrets.dapr_api_token,
            "APP_API_TOKEN": secrets.app_api_token,
            "DAPR_TRUST_ANCHORS": control_plane.trust_anchors(project).read_text(),
            "GOMAXPROCS": "1",  # a sidecar that uses one core needs a third less of it per event
        },
        log=project.log("dapr-run"),
    )
    # Its orderly stop is to kill its children, and it is deaf while it still starts some.
    kill = signal.SIGKILL
    return Supervised("dapr-run", command, adopted, layer=Layer.DAPR_RUN, stop_signal=kill)


def expected(project: Project) -> list[str]:
    """In the order in which the CLI starts them, one after the other."""
    return [name for app in project.apps for name in (f"{app.name}{_SIDECAR}", app.name)]


def passed_over(project: Project, missing: Collection[str]) -> str | None:
    """One that is missing although the CLI has gone on to a later app, so it must be dead.

    An app and its own sidecar start at the same moment, in which either may show first.
    """
    names = [(f"{app.name}{_SIDECAR}", app.name) for app in project.apps]
    begun = [index for index, pair in enumerate(names) if not set(pair) <= set(missing)]
    earlier = names[: max(begun, default=0)]
    return next((name for pair in earlier for name in pair if name in missing), None)


def _is_sidecar(name: str) -> bool:
    return name.endswith(_SIDECAR)


def running(cli: Supervised) -> Iterator[tuple[str, psutil.Process]]:
    """What the CLI has started so far, by the names that we give them."""
    if cli.pid is None:
        return
    with suppress(psutil.Error):
        for child in psutil.Process(cli.pid).children():
            if name := _name(child):
                yield name, child


def supervised(project: Project, name: str, child: psutil.Process) -> Supervised:
    """For a child of the CLI; how it was started is what the operating system says."""
    app = next(app for app in project.apps if name in (app.name, f"{app.name}{_SIDECAR}"))
    command = Command(
        argv=child.cmdline(), cwd=Path(child.cwd()), env=child.environ(), log=project.log(name)
    )
    if _is_sidecar(name):
        # Not /healthz/outbound: an event that is published before its subscribers have declared
        # their queues is lost, and this one waits for them.
        healthy = answers(f"http://{HOST}:{app.dapr_http_port}/v1.0/healthz")
        return Supervised(name, command, healthy, ports=app.sidecar_ports, layer=Layer.SIDECAR)
    healthy = answers(f"http://{HOST}:{app.port}/health")
    ports = [app.port]
    return Supervised(name, command, healthy, ports=ports, layer=Layer.APP, grace_seconds=30)


def show_log(project: Project, name: str) -> None:
    """Of a process that the CLI started; the newest, as each start gets a file of its own."""
    kind = "daprd" if _is_sidecar(name) else "app"
    written = project.dapr_logs.glob(f"{name.removesuffix(_SIDECAR)}_{kind}_*.log")
    if newest := max(written, default=None):
        logs.show(newest, project.log(name))


def _name(child: psutil.Process) -> str | None:
    """None for what is neither: a child that has not called exec yet, or `daprd --version`."""
    with suppress(psutil.Error):
        argv = child.cmdline()
        if argv and Path(argv[0]).name == "daprd" and "--app-id" in argv:
            return argv[argv.index("--app-id") + 1] + _SIDECAR
        return child.environ().get("APP_ID")
    return None


def _runtime_path(project: Project, runtime: DaprRuntime) -> Path:
    """What `dapr` takes for its installation: the real one, with options added to the sidecar's."""
    home = project.state / "dapr"
    programs = home / ".dapr" / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    daprd = programs / "daprd"
    program = runtime.binary("daprd")
    daprd.write_text(_DAPRD.format(daprd=program, host=HOST, sentry=control_plane.SENTRY_ADDRESS))
    daprd.chmod(0o755)
    return home
