"""Puts Dapr and the platform into a cluster, whichever it is; each after a dry run."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from waybill.cluster.kubectl import Kubectl
from waybill.errors import PlatformError
from waybill.logs import last_lines
from waybill.processes import Command, run
from waybill.progress import Board, Stage
from waybill.project import Project
from waybill.waiting import until

NAMESPACE = "waybill"
DAPR_NAMESPACE = "dapr-system"

_SERVICE = "service"
_VALUES = Path("k8s", "dapr-values.yaml")
_DAPR_SECONDS = 300
_PLATFORM_SECONDS = 420


@dataclass(frozen=True)
class Target:
    """A cluster, by the options that lead kubectl and helm there, and what it is to get."""

    project: Project
    kubectl: Kubectl
    helm: Sequence[str]
    chart: Sequence[str]
    overlay: Path

    @property
    def values(self) -> list[Path]:
        """Of Dapr's chart; an overlay may have some of its own."""
        files = (self.project.root / _VALUES, self.project.root / self.overlay / _VALUES.name)
        return [file for file in files if file.exists()]


async def install_dapr(target: Target, board: Board, *, dry_run: bool = False) -> None:
    """From its chart; again is an upgrade."""
    with board.stage("Dapr, dry run" if dry_run else "Dapr"):
        log = target.project.log("helm")
        command = Command(
            argv=[
                *target.helm,
                *("upgrade", "dapr", *target.chart, "--install"),
                *("--namespace", DAPR_NAMESPACE, "--create-namespace"),
                *(f"--values={file}" for file in target.values),
                *("--wait", "--timeout", f"{_DAPR_SECONDS}s"),
                *(["--dry-run=server"] if dry_run else []),
            ],
            cwd=target.project.root,
            env=dict(os.environ),
            log=log,
        )
        if await run(command, _DAPR_SECONDS + 10) != 0:
            raise PlatformError(f"Dapr does not start. The end of {log}:\n{last_lines(log)}")


async def apply(target: Target, board: Board) -> None:
    """Applies the overlay, the services last; returns when every pod is ready.

    The manifests get along without an order. But sidecars that start before the broker end and are
    held back longer each time, and a small node has enough to do with half of it.
    """
    with board.stage("Stores and migrations") as stage:
        await _ensure_namespace(target)
        await _apply(target, "--selector", f"app.kubernetes.io/component!={_SERVICE}")
        await _settled(target.kubectl, stage)
    with board.stage("Services") as stage:
        await _apply(target)
        await _settled(target.kubectl, stage)


async def try_apply(target: Target, board: Board) -> None:
    """Has the API server judge every manifest; changes nothing but to make the namespace."""
    with board.stage("Waybill, dry run"):
        await _ensure_namespace(target)
        await _apply(target, "--dry-run=server")


async def _apply(target: Target, *options: str) -> None:
    folder = str(target.project.root / target.overlay)
    await target.kubectl.run("apply", "--server-side", *options, "--kustomize", folder)


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


async def has_dapr(target: Target) -> bool:
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
