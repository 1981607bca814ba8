"""A cluster of this checkout gets its secrets from random ones that stay out of version control."""

import shutil
import stat
from pathlib import Path

import pytest
import yaml
from waybill import cluster_secrets
from waybill.project import Project

ROOT = Path(__file__).parents[3]


@pytest.fixture
def checkout(tmp_path: Path) -> Project:
    shutil.copy(ROOT / "run.yaml", tmp_path)
    (tmp_path / cluster_secrets.FOLDER).mkdir(parents=True)
    return Project(tmp_path)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_they_are_made_once(checkout: Project) -> None:
    folder = checkout.root / cluster_secrets.FOLDER
    cluster_secrets.write(checkout, folder)
    first = contents(folder)
    cluster_secrets.write(checkout, folder)
    assert contents(folder) == first
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_they_are_the_files_that_kustomize_reads(checkout: Project) -> None:
    folder = checkout.root / cluster_secrets.FOLDER
    cluster_secrets.write(checkout, folder)
    component = yaml.safe_load((ROOT / cluster_secrets.FOLDER / "kustomization.yaml").read_text())
    read = {
        file.rpartition("=")[2]
        for secret in component["secretGenerator"]
        for file in (*secret.get("envs", []), *secret.get("files", []))
    }
    assert read == contents(folder).keys()
