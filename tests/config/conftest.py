"""The project's YAML as data: each file's documents, fresh for every test."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDERS = ("components", "dapr", "dapr/subscriptions")


@pytest.fixture(scope="session")
def loaded() -> dict[str, list[Any]]:
    paths = [p for folder in FOLDERS for p in sorted((ROOT / folder).glob("*.yaml"))]
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
