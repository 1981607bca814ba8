"""Puts Dapr and the platform into a cluster, whichever it is; each after a dry run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from waybill.cluster.kubectl import Kubectl
from waybill.errors import PlatformError
from waybill.processes import output
from waybill.progress import Board, Stage
from waybill.project import Project
from waybill.waiting import until

NAMESPACE = "waybill"
DAPR_NAMESPACE = "dapr-system"

_SERVICE = "service"
_VALUES = Path("k8s", "dapr-values.yaml")
_DAPR_SECONDS = 300
_PLATFORM_SECONDS = 420
_STDIN = ("--filename", "-")
_APPLY = ("apply", "--server-side", "--force-conflicts", *_STDIN)
"""By force: what helm installed, or a person changed or rolled back, is theirs until then."""


@dataclass(frozen=True)
class Target:
    """A cluster, by the options that lead kubectl and helm there, and what it is to get.

    `chart` is Dapr's, by the options that lead helm to it, and `settings` are options for it.
    """

    project: Project
    kubectl: Kubectl
    helm: Sequence[str]
    chart: Sequence[str]
    settings: Sequence[str]
    overlay: Path

    @property
    def values(self) -> list[Path]:
        """Of Dapr's chart; an overlay may have some of its own."""
        files = (self.project.root / _VALUES, self.project.root / self.overlay / _VALUES.name)
        return [file for file in files if file.exists()]

    async def manifests(self) -> str:
        """The platform's, as the overlay makes them."""
        return await self.kubectl.render(self.project.root / self.overlay)


async def deploy(target: Target, board: Board) -> None:
    """Each part after a dry run; again is an upgrade. Returns when every pod is ready."""
    manifests = await target.manifests()
    await _try_dapr(target, board)
    await install_dapr(target, board)
    await _try_platform(target, manifests, board)
    await install_platform(target, manifests, board)


async def try_out(target: Target, board: Board) -> None:
    """The dry runs alone; changes nothing but to make the namespace."""
    manifests = await target.manifests()
    await _try_dapr(target, board)
    if await _has_dapr(target):
        await _try_platform(target, manifests, board)
    else:
        with board.stage("Waybill, dry run") as stage:
            stage.detail = "left out: half of its kinds come with Dapr"


async def _try_dapr(target: Target, board: Board) -> None:
    """The chart uses kinds of its own: before they are known helm can render it, and no more."""
    with board.stage("Dapr, dry run"):
        await _apply_crds(target, await _crds(target), "--dry-run=server")
        if await _has_dapr(target):
            await _upgrade_dapr(target, "--dry-run=server")
        else:
            await _helm(target, "template", "dapr", *_chart(target))


async def install_dapr(target: Target, board: Board) -> None:
    """helm installs the definitions of kinds, but never brings a newer one."""
    with board.stage("Dapr"):
        crds = await _crds(target)
        await _apply_crds(target, crds)
        await target.kubectl.run("wait", "--for=condition=Established", *_STDIN, stdin=crds)
        await _upgrade_dapr(target, "--wait", "--timeout", f"{_DAPR_SECONDS}s")


async def _crds(target: Target) -> str:
    return await _helm(target, "show", "crds", *target.chart)


async def _apply_crds(target: Target, crds: str, *options: str) -> None:
    await target.kubectl.run(*_APPLY, *options, stdin=crds)


async def _upgrade_dapr(target: Target, *options: str) -> None:
    install = ("upgrade", "dapr", *_chart(target), "--install", "--create-namespace")
    await _helm(target, *install, *options)


def _chart(target: Target) -> list[str]:
    files = [f"--values={file}" for file in target.values]
    return [*target.chart, *target.settings, f"--namespace={DAPR_NAMESPACE}", *files]


async def _helm(target: Target, *arguments: str) -> str:
    return await output(*target.helm, *arguments, seconds=_DAPR_SECONDS + 10)


async def install_platform(target: Target, manifests: str, board: Board) -> None:
    """Applies the overlay, the services last.

    The manifests get along without an order. But sidecars that start before the broker end and are
    held back longer each time, and a small node has enough to do with half of it.
    """
    with board.stage("Stores and migrations") as stage:
        await _ensure_namespace(target)
        await _apply(target, manifests, "--selector", f"app.kubernetes.io/component!={_SERVICE}")
        await _settled(target.kubectl, stage)
    with board.stage("Services") as stage:
        await _apply(target, manifests)
        await _settled(target.kubectl, stage)


async def _try_platform(target: Target, manifests: str, board: Board) -> None:
    """Has the API server judge every manifest."""
    with board.stage("Waybill, dry run"):
        await _ensure_namespace(target)
        await _apply(target, manifests, "--dry-run=server")


async def _apply(target: Target, manifests: str, *options: str) -> None:
    await target.kubectl.run(*_APPLY, *options, stdin=manifests)


async def _settled(kubectl: Kubectl, stage: Stage) -> None:
    async def is_settled() -> bool:
        waiting = await _not_ready(kubectl)
        stage.detail = f"waiting for {', '.join(waiting)}"
        return not waiting

    try:
        await until(is_settled, seconds=_PLATFORM_SECONDS, every=1)
    except TimeoutError:
        pods = await kubectl.run("get", "pods", "--namespace", NAMESPACE)
        raise PlatformError(f"Not everything is ready:\n{pods}") from None
    stage.detail = ""


async def _has_dapr(target: Target) -> bool:
    """Whether its kinds are known there."""
    name = "components.dapr.io"
    return bool(await target.kubectl.run("get", "crd", name, "--ignore-not-found"))


async def _ensure_namespace(target: Target) -> None:
    """A dry run needs it as well."""
    if not await target.kubectl.run("get", "namespace", NAMESPACE, "--ignore-not-found"):
        await target.kubectl.run("create", "namespace", NAMESPACE)


async def _not_ready(kubectl: Kubectl) -> list[str]:
    found = await kubectl.get("deployments,statefulsets,jobs", "--namespace", NAMESPACE)
    return [item["metadata"]["name"] for item in found["items"] if not _is_ready(item)]


def _is_ready(item: Mapping[str, Any]) -> bool:
    """A workload with every pod up to date and ready, or a job that is done."""
    status = item["status"]
    if item["kind"] == "Job":
        return status.get("succeeded", 0) > 0
    wanted = item["spec"]["replicas"]
    is_seen = status.get("observedGeneration") == item["metadata"]["generation"]
    return is_seen and status.get("readyReplicas", 0) == wanted == status.get("updatedReplicas", 0)
