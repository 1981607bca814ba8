"""`cluster`: the platform in a Kubernetes cluster of its own, on this machine."""

import asyncio
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from waybill import background, cluster_secrets, lock, logs
from waybill.cluster import images, namespaces, programs
from waybill.commands.lifecycle import checkout
from waybill.errors import PlatformError
from waybill.progress import Board, display
from waybill.project import Project

commands = typer.Typer(help="Run the platform in a Kubernetes cluster of its own, as root.")
console = Console()

_TESTS = ("-m", "pytest", "-q", "tests/cluster", "tests/e2e/test_order_life.py")

_STARTER = Path("starter")
"""Within the state: the lock that whoever starts a cluster holds until it is ready."""
_TESTER = Path("tester")
"""Likewise, of whoever tests one."""
_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
_ADMINISTRATION = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where half of the programs are, and where the PATH of a person who became root may not lead."""
_UMASK = 0o022
"""What is made for others, such as the users of pods, has to be for them to read."""
_INTERRUPTED_SECONDS = 30


@commands.command()
def up() -> None:
    """Build what is missing, start the cluster and leave it running."""
    if not _ensure_up(_cluster()):
        console.print("The cluster runs already; `waybill cluster status` shows it.")
    console.print("`waybill cluster exec kubectl get pods` looks inside.")


@commands.command()
def down() -> None:
    """End the cluster, or what is left of one, and check that nothing remains."""
    if not _end(_cluster()):
        console.print("No cluster is running.")


@commands.command()
def status() -> None:
    """Show the pods, and the processes beside them."""
    here = _cluster()
    _require(here)
    pods = _run(here, ["kubectl", "get", "pods", "--all-namespaces"])
    processes = _run(here, [sys.executable, "-m", "waybill", "status"])
    raise typer.Exit(max(pods, processes))


@commands.command(
    "exec", context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)
def execute(context: typer.Context) -> None:
    """Run a command inside, such as kubectl, or `waybill verify` on the cluster's platform."""
    here = _cluster()
    _require(here)
    raise typer.Exit(_run(here, context.args))


@commands.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def test(context: typer.Context) -> None:
    """Run the tests of the cluster, on the one that runs or one of their own.

    What follows goes to pytest.
    """
    here = _cluster()
    tests = [sys.executable, *_TESTS, *context.args]
    with _alone(here, _TESTER, "A `waybill cluster test` runs: two would kill each other's pods."):
        lifeline, grip = os.pipe()
        is_own = _ensure_up(here, lifeline)
        try:
            code = _run(here, tests)
        finally:
            if is_own:
                _end(here)
            os.close(grip)
    raise typer.Exit(code)


@commands.command(hidden=True)
def node(lifeline: Annotated[int | None, typer.Option()] = None) -> None:
    """The first process of the cluster's namespaces, and the supervisor that it looks after."""
    from waybill import project, session  # noqa: PLC0415  # see lifecycle.up
    from waybill.cluster import startup  # noqa: PLC0415

    if not namespaces.is_first_process():
        raise PlatformError("Only `waybill cluster up` can start this.")
    os.umask(_UMASK)
    here = project.find()
    child = os.fork()
    if child:
        code = namespaces.reap_until_exit(child)
        namespaces.dissolve(here)
        _clear(Project(here.root, namespaces.STATE))
        sys.exit(code)
    namespaces.furnish(here)
    sys.exit(asyncio.run(session.run(here, console, startup.start, lifeline)))


def _ensure_up(here: Project, lifeline: int | None = None) -> bool:
    """Returns when the cluster is ready; False if it was there, or on its way, already.

    Two that come at once must not clear away each other's.
    """
    _end_in_order_on_signals()
    os.umask(_UMASK)
    if lock.holder(here) is None:
        with _alone(here, _STARTER, "Another `waybill cluster` is at it."):
            if lock.holder(here) is None:
                _end(here)  # what was killed may have left something
                asyncio.run(_prepare(here))
                asyncio.run(_start(here, lifeline))
                return True
    asyncio.run(background.wait_ready(here, console, None))
    return False


@contextmanager
def _alone(here: Project, folder: Path, refusal: str) -> Generator[None]:
    place = Project(here.root, here.state_folder / folder)
    if lock.holder(place):
        raise PlatformError(refusal, fix="wait for it")
    with lock.hold(place):
        yield


def _end_in_order_on_signals() -> None:
    """A killed command would leave behind what it has begun; a second signal changes nothing."""

    def leave(number: int, _: object) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        sys.exit(128 + number)

    for number in _SIGNALS:
        signal.signal(number, leave)


async def _prepare(here: Project) -> None:
    """Outside of the cluster, where there is a network."""
    logs.rotate(here)
    board = Board()
    with display(console, lambda: board.stages):
        available = await programs.ensure(here, board)
        cluster_secrets.write(here, here.root / cluster_secrets.FOLDER)
        with board.stage("Images") as stage:
            await images.ensure(here, available, stage)


async def _start(here: Project, lifeline: int | None = None) -> None:
    """With a lifeline the cluster ends as soon as nobody holds the other end of that pipe."""
    own = [sys.executable, "-m", "waybill", "cluster", "node"]
    child = background.spawn(here, [*namespaces.enter(here), *own], lifeline)
    try:
        await background.wait_ready(here, console, child)
    except BaseException:
        with _undisturbed():
            child.kill()  # it may not bear the mark yet that `_end` knows its processes by
            child.wait()
            _end(here)
        raise


def _end(here: Project) -> bool:
    """False if none ran; what is left of one is removed all the same."""
    with _undisturbed():
        ran = namespaces.end(here)
        left = namespaces.remains(here)
        _clear(here)
    if left:
        raise PlatformError("Something is left of the cluster:\n" + "\n".join(left))
    return ran


@contextmanager
def _undisturbed() -> Generator[None]:
    """A person who presses Ctrl-C twice must not interrupt what clears away."""
    before = {
        number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, *_SIGNALS)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _clear(here: Project) -> None:
    """All but the logs, the secrets, which the manifests have, and the locks of these commands.

    Whoever ends a cluster that is on its way does it beside whoever started that.
    """
    kept = (here.logs, here.secrets, here.state / _STARTER, here.state / _TESTER)
    for path in here.state.glob("*"):
        if path not in kept:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _run(here: Project, argv: Sequence[str]) -> int:
    """In the cluster's namespaces, where its own programs come first."""
    first = namespaces.first_process(here)
    folders = ":".join(programs.find().folders)
    environment = {
        **os.environ,
        **namespaces.environment(here),
        "PATH": f"{folders}:{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    command = [*namespaces.join(first, here.root), *argv]
    with subprocess.Popen(command, env=environment) as child:  # noqa: S603  # what the person typed
        try:
            return child.wait()
        except KeyboardInterrupt:  # which the terminal has sent to the child as well
            with suppress(subprocess.TimeoutExpired):
                child.wait(_INTERRUPTED_SECONDS)
            raise
        finally:
            child.kill()


def _require(here: Project) -> None:
    if lock.holder(here) is None:
        raise PlatformError("No cluster is running.", fix="waybill cluster up")


def _cluster() -> Project:
    """For root alone: others do not see the processes of one, and would take it for ended."""
    here = Project(checkout().root, namespaces.STATE)
    if os.geteuid() != 0:
        again = shlex.join([sys.executable, "-m", "waybill", *sys.argv[1:]])
        raise PlatformError("A cluster needs root.", fix=f'sudo env "PATH=$PATH" {again}')
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:{_ADMINISTRATION}"
    return here
