"""What the tests build and judge the manifests with: kustomize and kubeconform."""

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from waybill.errors import PlatformError
from waybill.progress import Stage
from waybill.project import Project
from waybill.runtime import go_build
from waybill.runtime.cached import cache, once
from waybill.runtime.go_build import Target

_COMPILED = {
    "kustomize": ("sigs.k8s.io/kustomize/kustomize/v5", 389),
    "kubeconform": ("github.com/yannh/kubeconform/cmd/kubeconform", 230),
}
"""Program → its package, and how many are compiled for it."""


def targets(project: Project) -> Mapping[str, Target]:
    modules = project.root / "k8s" / "tools"
    return {
        name: Target(
            module=modules / name,
            programs=[program],
            options=["-ldflags=-s -w"],
            packages=packages,
            minutes=1,
        )
        for name, (program, packages) in _COMPILED.items()
    }


async def ensure(project: Project, stage: Stage, log: Path) -> None:
    """Builds those that are missing; without Go, whichever versions are installed will do."""
    for name, target in targets(project).items():
        if go_build.go_version() is not None or shutil.which(name) is None:
            await once(_folder(target), stage, partial(_fill, target, stage=stage, log=log))
    stage.detail = ""


async def _fill(target: Target, folder: Path, stage: Stage, log: Path) -> None:
    await go_build.build([target], folder, stage, log)


def find(project: Project, name: str) -> Path:
    built = _folder(targets(project)[name]) / name
    if built.exists():
        return built
    installed = shutil.which(name)
    if installed is None:
        raise PlatformError(f"{name} is missing.", fix="waybill prepare")
    return Path(installed)


def _folder(target: Target) -> Path:
    """A different pin is a different directory, so an upgrade never mixes versions."""
    return cache() / "tools" / f"{target.module.name}-{go_build.fingerprint([target])}"
