"""`deploy`: the platform in a cluster that somebody has already."""

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from waybill import cluster_secrets
from waybill.cluster import deploy as steps
from waybill.cluster.deploy import Target
from waybill.cluster.kubectl import Kubectl
from waybill.cluster.programs import DAPR_VERSION
from waybill.commands.lifecycle import checkout
from waybill.errors import PlatformError
from waybill.progress import Board, display
from waybill.project import Project

commands = typer.Typer()
console = Console()

_CHARTS = "https://dapr.github.io/helm-charts"


@commands.command()
def deploy(
    context: Annotated[str, typer.Option(help="The cluster, as kubectl knows it.")],
    overlay: Annotated[
        Path, typer.Option(help="What to apply; its images must be where the cluster finds them.")
    ] = Path("k8s/overlays/dev"),
    chart: Annotated[
        Path | None, typer.Option(help="A copy of Dapr's chart, instead of the published one.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Of the chart, such as global.registry=….")
    ] = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing, but for an empty namespace.")
    ] = False,
) -> None:
    """Install Dapr and the platform in a cluster of yours: a dry run first, then for real."""
    target = _target(checkout(), context, overlay, chart, settings or [])
    asyncio.run(_deploy(target, only_try=dry_run))


def _target(
    here: Project, context: str, overlay: Path, chart: Path | None, settings: Sequence[str]
) -> Target:
    if missing := [name for name in ("kubectl", "helm") if not shutil.which(name)]:
        raise PlatformError(f"{' and '.join(missing)} cannot be found.", fix="install it")
    published = ["dapr", "--repo", _CHARTS, "--version", DAPR_VERSION]
    return Target(
        here,
        Kubectl("kubectl", ["--context", context]),
        helm=["helm", "--kube-context", context],
        chart=[str(chart)] if chart else published,
        settings=[f"--set={setting}" for setting in settings],
        overlay=overlay,
    )


async def _deploy(target: Target, *, only_try: bool) -> None:
    here = target.project
    here.logs.mkdir(parents=True, exist_ok=True)
    if not await target.kubectl.answers():
        raise PlatformError("The cluster does not answer.", fix="kubectl config get-contexts")
    cluster_secrets.write(here, here.root / cluster_secrets.FOLDER)
    board = Board()
    with display(console, lambda: board.stages):
        await (steps.try_out if only_try else steps.deploy)(target, board)
