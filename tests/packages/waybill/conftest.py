"""A checkout of its own for each test of the `waybill` command."""

from pathlib import Path

import pytest
from waybill.project import Project

_RUN_FILE = """\
version: 1
apps:
  - appID: orders
    appPort: 28001
    daprHTTPPort: 23501
    daprGRPCPort: 24501
    daprInternalGRPCPort: 25501
    metricsPort: 29501
    env: {DATABASE_URL: postgresql+asyncpg://orders@127.0.0.1/orders}
  - appID: inventory
    appPort: 28003
    daprHTTPPort: 23503
    daprGRPCPort: 24503
    daprInternalGRPCPort: 25503
    metricsPort: 29503
    env: {DATABASE_URL: postgresql+asyncpg://inventory@127.0.0.1/inventory}
  - appID: gateway
    appPort: 28000
    daprHTTPPort: 23500
    daprGRPCPort: 24500
    daprInternalGRPCPort: 25500
    metricsPort: 29500
"""


@pytest.fixture(scope="session")
def run_file() -> str:
    return _RUN_FILE


@pytest.fixture
def checkout(tmp_path: Path, run_file: str, monkeypatch: pytest.MonkeyPatch) -> Project:
    (tmp_path / "run.yaml").write_text(run_file)
    monkeypatch.chdir(tmp_path)
    project = Project(tmp_path)
    project.logs.mkdir(parents=True)
    return project
