"""The project's YAML as data: each file's documents, fresh for every test."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDERS = ("components", "dapr", "dapr/subscriptions")
FOR_KUSTOMIZE = "kustomization.yaml"  # tests/k8s has its own opinion of these


@pytest.fixture(scope="session")
def loaded() -> dict[str, list[Any]]:
    found = [p for folder in FOLDERS for p in sorted((ROOT / folder).glob("*.yaml"))]
    paths = [path for path in found if path.name != FOR_KUSTOMIZE]
    return {
        path.relative_to(ROOT).as_posix(): list(yaml.safe_load_all(path.read_text()))
        for path in [*paths, ROOT / "run.yaml"]
    }


@pytest.fixture
def files(loaded: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Documents by path, to break as a test likes."""
    return deepcopy(loaded)


@pytest.fixture(scope="session")
def schemas() -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "schemas.json").read_text())
