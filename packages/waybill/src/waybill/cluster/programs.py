"""What the cluster is made of: built from versions that modules of ours pin, or Debian's."""

import asyncio
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from waybill.errors import PlatformError
from waybill.progress import Board, Stage
from waybill.project import Project
from waybill.runtime import debian, go_build
from waybill.runtime.cached import cache, once
from waybill.runtime.go_build import Target

_MODULES = Path(__file__).parent / "go"
_DEBIAN_CNI = Path("/usr/lib/cni")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
"""Those that this machine trusts."""

KUBERNETES_VERSION = go_build.pinned(_MODULES / "kubernetes", "k8s.io/kubernetes")
DAPR_VERSION = go_build.RUNTIME_VERSION
_CALICO = "github.com/projectcalico/calico"
DAPR_SERVICES = ("operator", "injector", "sentry", "placement", "scheduler")


def _kubernetes_version() -> str:
    """As the linker writes it into the programs, which call themselves v0.0.0 otherwise."""
    major, minor, _ = KUBERNETES_VERSION.split(".")
    known = {"gitVersion": f"v{KUBERNETES_VERSION}", "gitMajor": major, "gitMinor": minor}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return " ".join(f"-X {package}.{k}={v}" for package in packages for k, v in known.items())


TARGETS = {
    "Kubernetes": Target(
        module=_MODULES / "kubernetes",
        programs=[
            f"k8s.io/kubernetes/cmd/{program}"
            for program in (
                "kube-apiserver",
                "kube-controller-manager",
                "kube-proxy",
                "kube-scheduler",
                "kubectl",
                "kubelet",
            )
        ],
        options=[f"-ldflags=-s -w {_kubernetes_version()}"],
        packages=2400,
        minutes=7,
    ),
    "Calico": Target(
        module=_MODULES / "calico",
        programs=[f"{_CALICO}/cni-plugin/cmd/calico", f"{_CALICO}/felix/cmd/calico-felix"],
        options=["-ldflags=-s -w"],
        packages=370,
        minutes=1,
    ),
    "Dapr": go_build.dapr(*DAPR_SERVICES),
    "Cluster tools": Target(
        module=_MODULES / "tools",
        programs=[
            "./coredns",
            "helm.sh/helm/v3/cmd/helm",
            "sigs.k8s.io/metrics-server/cmd/metrics-server",
        ],
        options=["-ldflags=-s -w"],
        packages=1300,
        minutes=3,
    ),
}

_CHART = "chart"
_CALICO_KINDS = "calico-kinds"
"""These lie beside the programs that they belong to, out of the same source."""

_BESIDE = {
    go_build.DAPR: ("github.com/dapr/dapr", "charts/dapr", _CHART),
    _MODULES / "calico": (_CALICO, "libcalico-go/config/crd", _CALICO_KINDS),
}
"""Module → what it requires, a folder in the source of that, and the name it gets."""

_PACKAGES: Mapping[str, str] = {
    "buildah": "buildah",
    "containerd": "containerd",
    "debootstrap": "debootstrap",
    "etcd": "etcd-server",
    "ip": "iproute2",
    "ipset": "ipset",
    "iptables": "iptables",
    "runc": "runc",
}
"""Program → the Debian package that has it."""

_FILES: Mapping[Path, str] = {
    CERTIFICATES: "ca-certificates",
    _DEBIAN_CNI / "host-local": "containernetworking-plugins",
}


@dataclass(frozen=True)
class Programs:
    built: Mapping[str, Path]

    def __getitem__(self, name: str) -> str:
        """The path of a program, or a PlatformError."""
        path = self.built.get(name) or shutil.which(name)
        if path is None:
            raise PlatformError(f"{name} is missing.", fix="waybill cluster up")
        return str(path)

    @property
    def folders(self) -> list[str]:
        return sorted({str(path.parent) for path in self.built.values()})

    @property
    def network_plugins(self) -> list[Path]:
        """Calico's connects a pod; one of Debian's chooses its address, and so on."""
        return [self.built["calico"], *_DEBIAN_CNI.iterdir()]

    @property
    def dapr_chart(self) -> Path:
        return self.built[_CHART]

    @property
    def calico_kinds(self) -> Path:
        """A folder of definitions."""
        return self.built[_CALICO_KINDS]


def find() -> Programs:
    """What is there; a program that is not raises when it is asked for."""
    programs = (path for target in TARGETS.values() for path in _destination(target).glob("*"))
    return Programs({path.name: path for path in programs if os.access(path, os.X_OK)})


async def ensure(project: Project, board: Board) -> Programs:
    """Builds and installs what is missing."""
    if missing := _missing_packages():
        with board.stage("Debian packages") as stage:
            stage.detail = f"installing {', '.join(missing)}"
            await debian.install(missing, project.root, project.log("apt"))
            stage.detail = ", ".join(missing)
    for name, target in TARGETS.items():
        with board.stage(name) as stage:
            log = project.log(f"build-{target.module.name}")
            await once(_destination(target), stage, partial(_fill, target, stage=stage, log=log))
            stage.detail = str(_destination(target))
    return find()


def _missing_packages() -> list[str]:
    missing = [package for program, package in _PACKAGES.items() if not shutil.which(program)]
    return missing + [package for file, package in _FILES.items() if not file.exists()]


def _destination(target: Target) -> Path:
    """A different pin is a different directory, so an upgrade never mixes versions."""
    known = go_build.fingerprint([target], _BESIDE.get(target.module))
    return cache() / "cluster" / f"{target.module.name}-{known}"


async def _fill(target: Target, folder: Path, stage: Stage, log: Path) -> None:
    await go_build.build([target], folder, stage, log)
    if beside := _BESIDE.get(target.module):
        requirement, path, name = beside
        source = await asyncio.to_thread(go_build.source, target.module, requirement)
        shutil.copytree(source / path, folder / name)
