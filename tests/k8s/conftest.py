"""What the overlays come to: built by kustomize, each once, fresh for every test."""

import asyncio
import fcntl
import os
import shutil
import subprocess
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from k8s.manifests import ON_TOP_OF_PROD, PLATFORMS, Cluster, Documents
from waybill import cluster_secrets
from waybill.progress import Stage
from waybill.project import Project
from waybill.runtime import manifest_tools

ROOT = Path(__file__).parents[2]
SOURCES = ("components", "dapr", "k8s", "run.yaml")
ALL = (*PLATFORMS, "argocd")


def tool(name: str) -> Path:
    """`waybill prepare` builds it; so does the first test that asks."""
    here = Project(ROOT)
    here.logs.mkdir(parents=True, exist_ok=True)
    log = here.log("build-manifest-tools")
    asyncio.run(manifest_tools.ensure(here, Stage(name=name), log))
    return manifest_tools.find(here, name)


@pytest.fixture(scope="session")
def kubeconform() -> Path:
    return tool("kubeconform")


def build(folder: Path) -> str:
    program = tool("kustomize")
    command = [str(program), "build", str(folder)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return built.stdout


def copy_of_the_checkout(copy: Path) -> None:
    """The YAML with secrets of its own, and the variants of production beside it."""
    for source in SOURCES:
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, copy / source)
        else:
            shutil.copy(ROOT / source, copy)
    cluster_secrets.write(Project(copy), copy / cluster_secrets.FOLDER)
    overlays = copy / "k8s" / "overlays"
    for component in ON_TOP_OF_PROD:
        variant = overlays / f"prod+{component}"
        shutil.copytree(overlays / "prod", variant)
        with (variant / "kustomization.yaml").open("a") as kustomization:
            kustomization.write(f"components: [../../components/{component}]\n")


@pytest.fixture(scope="session")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What kustomize makes of each overlay; once for all processes of a test run."""
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "k8s"
    shared.mkdir(exist_ok=True)
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "complete").exists():
            copy_of_the_checkout(shared)
            for name in ALL:
                folder = shared / "k8s" / ("" if name == "argocd" else "overlays") / name
                (shared / f"{name}.yaml").write_text(build(folder))
            (shared / "complete").touch()
    return {name: (shared / f"{name}.yaml").read_text() for name in ALL}


@pytest.fixture(scope="session")
def parsed(manifests: dict[str, str]) -> dict[str, Documents]:
    return {name: list(yaml.load_all(text, yaml.CSafeLoader)) for name, text in manifests.items()}


@pytest.fixture(scope="session")
def built(parsed: dict[str, Documents]) -> Cluster:
    """An overlay's documents, to be left as they are."""
    return lambda overlay: parsed[overlay]


@pytest.fixture
def cluster(parsed: dict[str, Documents]) -> Cluster:
    """An overlay's documents, to break as a test likes."""
    return lambda overlay: deepcopy(parsed[overlay])
