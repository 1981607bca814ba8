"""`prepare`: gets what the platform and its tests need, before they need it."""

import asyncio
import shutil

import typer
from rich.console import Console

from waybill import project
from waybill.parts import rabbitmq
from waybill.progress import Board, display
from waybill.project import Project
from waybill.runtime import debian, install, manifest_tools

commands = typer.Typer()
console = Console()

BROWSERS = ("chromium", "google-chrome")


@commands.command()
def prepare() -> None:
    """Install what is missing: the Dapr runtime, RabbitMQ, and what the tests need besides."""
    asyncio.run(_prepare(project.find()))


async def _prepare(here: Project) -> None:
    here.logs.mkdir(parents=True, exist_ok=True)
    board = Board()
    with display(console, lambda: board.stages):
        if rabbitmq.find_server() is None:
            await _install(here, board, rabbitmq.PACKAGE)
        if not any(map(shutil.which, BROWSERS)):
            await _install(here, board, BROWSERS[0])
        with board.stage("Dapr runtime") as stage:
            await install.ensure(stage, here.log("dapr-install"))
        with board.stage("Kustomize and kubeconform") as stage:
            await manifest_tools.ensure(here, stage, here.log("build-manifest-tools"))


async def _install(here: Project, board: Board, package: str) -> None:
    with board.stage(package) as stage:
        stage.detail = "installing the package"
        await debian.install([package], here.root, here.log("apt"))
        stage.detail = "installed"
