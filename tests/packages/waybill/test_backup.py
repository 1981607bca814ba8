"""A backup of a real cluster, and what must not happen when it is put back."""

import asyncio
import io
import re
import shutil
import socket
import sqlite3
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner
from valkey.asyncio import Valkey
from waybill import credentials, leftovers, lock, ports
from waybill.backup import archive, restoring, taking
from waybill.cli import app
from waybill.credentials import PlatformSecrets
from waybill.errors import PlatformError
from waybill.parts import postgres, unprivileged, valkey
from waybill.processes import Supervised
from waybill.progress import Board
from waybill.project import Project

LEDGER = '\n{"order": 1}\n'
REVISION = "0001"
MIGRATION = f'revision, down_revision = "{REVISION}", None\n'
NEXT_MIGRATION = f'revision, down_revision = "0002", "{REVISION}"\n'
EPOCH = """
    SELECT system_identifier || '.' || timeline_id
    FROM pg_control_system(), pg_control_checkpoint()
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@asynccontextmanager
async def running(*servers: Supervised) -> AsyncGenerator[None]:
    try:
        for server in servers:
            server.start()
            await server.wait_ready(30)
        yield
    finally:
        for server in servers:
            await server.stop()


class Site:
    """A checkout with a little of everything that a backup holds."""

    def __init__(self, project: Project) -> None:
        self.project = project
        project.logs.mkdir(parents=True, exist_ok=True)
        self.secrets: PlatformSecrets = credentials.ensure(project)

    @property
    def postgres(self) -> Supervised:
        cluster = postgres.locate(self.project)
        return postgres.process(self.project, cluster, self.secrets)

    @property
    def valkey(self) -> Supervised:
        return valkey.process(self.project, self.secrets)

    async def sell(self, order: int) -> int:
        """The number of the transaction."""
        with closing(sqlite3.connect(self.project.state / archive.PROVIDER)) as provider, provider:
            provider.execute("PRAGMA journal_mode = WAL")
            provider.execute("CREATE TABLE IF NOT EXISTS charges (for_order)")
            provider.execute("INSERT INTO charges VALUES (?)", (order,))
        async with postgres.connection(self.secrets, "orders") as session:
            await session.execute("CREATE TABLE IF NOT EXISTS orders (id int)")
            await session.execute("INSERT INTO orders VALUES ($1)", order)
            return int(await session.fetchval("SELECT pg_current_xact_id()::text::bigint"))

    async def migrate(self) -> None:
        """To the revision that another release would have left there."""
        async with postgres.connection(self.secrets, "orders") as session:
            await session.execute("CREATE TABLE alembic_version (version_num text)")
            await session.execute("INSERT INTO alembic_version VALUES ($1)", REVISION)

    async def epoch(self) -> str:
        async with postgres.connection(self.secrets, "orders") as session:
            return str(await session.fetchval(EPOCH))

    async def sold(self) -> tuple[list[int], list[int]]:
        """The orders, and those of which the provider knows."""
        async with postgres.connection(self.secrets, "orders") as session:
            orders = [row["id"] for row in await session.fetch("SELECT id FROM orders ORDER BY id")]
        with closing(sqlite3.connect(self.project.state / archive.PROVIDER)) as provider:
            return orders, [row[0] for row in provider.execute("SELECT * FROM charges")]

    @asynccontextmanager
    async def limits(self) -> AsyncGenerator[Valkey]:
        async with Valkey(
            host=ports.HOST,
            port=ports.VALKEY,
            password=self.secrets.valkey_password,
            db=taking.LIMITS_DATABASE,
            decode_responses=True,
        ) as client:
            yield client


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, run_file: str) -> AsyncIterator[Site]:
    """With one order, and stopped."""
    root = tmp_path_factory.mktemp("site")
    (root / "run.yaml").write_text(run_file)
    project = Project(root)
    (project.state / "provider").mkdir(parents=True)
    (project.state / "ledger.jsonl").write_text(LEDGER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ports, "POSTGRES", free_port())
        patch.setattr(ports, "VALKEY", free_port())
        site = Site(project)
        await postgres.initialise(project, postgres.locate(project), site.secrets)
        async with running(site.postgres, site.valkey):
            await postgres.provision(site.secrets, project.databases)
            await site.migrate()
            await site.sell(1)
            async with site.limits() as limits:
                await limits.set("rate-limits.orders", "7/minute||1")
        yield site
    unprivileged.remove_state(project.state)


@pytest.fixture(scope="module")
async def backup(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Taken while the platform was down."""
    path = tmp_path_factory.mktemp("backup") / "backup.tar.gz"
    await take(site.project, path)
    return path


@pytest.fixture
def here(checkout: Project) -> Iterator[Project]:
    """Another checkout, of a later release, which has a state already."""
    (checkout.state / "postgres").mkdir()
    (checkout.state / "ledger.jsonl").write_text("ours")
    migrations = checkout.migrations("orders")
    migrations.mkdir(parents=True)
    (migrations / "0001_initial.py").write_text(MIGRATION)
    (migrations / "0002_next.py").write_text(NEXT_MIGRATION)
    yield checkout
    for state in (checkout.state, *checkout.former_states):
        unprivileged.remove_state(state)


async def take(project: Project, path: Path) -> None:
    await asyncio.to_thread(taking.take, project, path, Board())


async def restore(here: Project, path: Path) -> Path | None:
    return await asyncio.to_thread(restoring.restore, here, path, Board())


def rebuilt(path: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """The archive with other contents under the same names and checksums."""
    target = path.with_name("changed.tar.gz")
    with tarfile.open(path) as source, tarfile.open(target, "w:gz", compresslevel=1) as copy:
        for member in source:
            content = source.extractfile(member)
            assert content
            changed = change(member.name, content.read())
            member.size = len(changed)
            copy.addfile(member, io.BytesIO(changed))
    return target


def torn(path: Path, share: float) -> Path:
    """The beginning of the archive."""
    target = path.with_name("torn.tar.gz")
    target.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return target


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def is_refused(here: Project, path: Path, reason: str) -> None:
    """And nothing has changed, nor is anything left over."""
    with pytest.raises(PlatformError, match=reason):
        await restore(here, path)
    assert_untouched(here)


def assert_untouched(here: Project) -> None:
    assert (here.state / "ledger.jsonl").read_text() == "ours"
    assert not here.former_states


async def test_a_platform_that_is_down_comes_back_in_another_checkout(
    site: Site, backup: Path, here: Project
) -> None:
    aside = await restore(here, backup)

    assert aside
    assert (aside / "ledger.jsonl").read_text() == "ours"
    assert (here.state / "ledger.jsonl").read_text() == LEDGER
    copy = Site(here)
    assert copy.secrets == site.secrets
    async with running(copy.postgres, copy.valkey):
        assert await copy.sold() == ([1], [1])
        async with copy.limits() as limits:
            assert await limits.get("rate-limits.orders") == "7/minute||1"


async def test_a_running_platform_is_copied_as_it_is(
    site: Site, here: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def as_they_run(*_: object) -> AsyncGenerator[None]:
        yield

    monkeypatch.setattr(taking, "_stores", as_they_run)
    path = tmp_path / "backup.tar.gz"
    async with running(site.postgres, site.valkey):
        transaction = await site.sell(2)
        before, epoch = await site.sold(), await site.epoch()
        await take(site.project, path)
        await site.sell(3)
    await restore(here, path)

    copy = Site(here)
    async with running(copy.postgres):
        assert await copy.sold() == before
        assert await copy.sell(4) > transaction, "transactions are numbered on, not anew"
        assert await copy.epoch() == epoch, "the watermarks in the copy would start anew"


async def test_only_its_owner_can_read_it(backup: Path, here: Project) -> None:
    assert mode(backup) == 0o600
    await restore(here, backup)
    assert mode(here.secrets) == 0o700
    assert {mode(path) for path in here.secrets.iterdir()} == {0o600}


async def test_an_existing_file_is_not_overwritten(site: Site, backup: Path) -> None:
    with pytest.raises(PlatformError, match="exists already"):
        await take(site.project, backup)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
async def test_a_torn_archive_changes_nothing(backup: Path, here: Project, share: float) -> None:
    await is_refused(here, torn(backup, share), "is no backup, or is damaged")


async def test_a_changed_member_is_noticed(backup: Path, here: Project) -> None:
    changed = rebuilt(backup, lambda name, b: b.upper() if name == archive.LEDGER else b)
    await is_refused(here, changed, "ledger.jsonl is not the same")


async def test_it_cannot_grow_beyond_what_it_says(backup: Path, here: Project) -> None:
    grown = rebuilt(backup, lambda name, b: b + bytes(10**8) if name == archive.LEDGER else b)
    await is_refused(here, grown, "more than its manifest says")


async def test_without_room_nothing_is_begun(
    site: Site, backup: Path, here: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nearly_full(_: Path) -> Any:
        return usage._replace(free=10**6)

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", nearly_full)
    await is_refused(here, backup, "free some space")
    with pytest.raises(PlatformError, match="free some space"):
        await take(site.project, tmp_path / "backup.tar.gz")
    assert_nothing_left(site, tmp_path)


@pytest.mark.parametrize("step", ["_copy_limits", "_pack"])
async def test_ctrl_c_leaves_nothing(
    site: Site, tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(taking, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        await take(site.project, tmp_path / "backup.tar.gz")
    assert_nothing_left(site, tmp_path)


def assert_nothing_left(site: Site, folder: Path) -> None:
    assert [path.name for path in folder.glob("*backup*")] == []
    assert list((site.project.state / "backup").iterdir()) == []
    assert leftovers.find(site.project) == []


async def test_one_backup_at_a_time(site: Site, tmp_path: Path) -> None:
    with taking.workplace(site.project) as folder:
        (folder / "part").touch()
        with pytest.raises(PlatformError, match="Another backup"):
            await take(site.project, tmp_path / "backup.tar.gz")
        assert (folder / "part").exists()


async def test_what_a_killed_backup_left_is_removed(site: Site) -> None:
    left = site.project.state / "backup" / "tmp-of-old"
    (left / "postgres").mkdir(parents=True)
    with taking.workplace(site.project) as folder:
        assert list(folder.parent.iterdir()) == [folder]


async def test_another_major_version_is_refused(backup: Path, here: Project) -> None:
    def older(name: str, content: bytes) -> bytes:
        if name != "manifest.json":
            return content
        return re.sub(rb'"postgres_version": "\d+', b'"postgres_version": "17', content)

    await is_refused(here, rebuilt(backup, older), "was taken with PostgreSQL 17")


async def test_a_schema_that_this_release_cannot_migrate_is_refused(
    backup: Path, here: Project
) -> None:
    assert archive.read_manifest(backup).schemas == {"orders": [REVISION], "inventory": []}
    (here.migrations("orders") / "0001_initial.py").unlink()
    (here.migrations("orders") / "0002_next.py").unlink()
    await is_refused(here, backup, f"nothing here leads on from revision {REVISION} of orders")


async def test_a_platform_that_is_up_is_left_alone(backup: Path, here: Project) -> None:
    with lock.hold(here):
        await is_refused(here, backup, "waybill down")


@pytest.mark.parametrize("step", ["_lay_out", "_verify", "exchange"])
async def test_a_restore_that_fails_changes_nothing(
    backup: Path, here: Project, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise PlatformError("the lights went out")

    monkeypatch.setattr(restoring, step, fails)
    await is_refused(here, backup, "the lights went out")


async def test_what_a_killed_restore_left_is_swept_and_former_states_are_kept(
    backup: Path, here: Project
) -> None:
    first = await restore(here, backup)
    draft = here.former_state("19700101T000000Z")
    (draft / "postgres").mkdir(parents=True)
    (draft / restoring.UNFINISHED).touch()

    second = await restore(here, backup)
    assert here.former_states == [first, second]


async def test_a_kill_right_after_the_exchange_costs_nothing(
    backup: Path, here: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = restoring.exchange

    def and_dies(one: Path, other: Path) -> None:
        exchange(one, other)
        raise KeyboardInterrupt

    monkeypatch.setattr(restoring, "exchange", and_dies)
    with pytest.raises(KeyboardInterrupt):
        await restore(here, backup)
    monkeypatch.setattr(restoring, "exchange", exchange)
    [ours] = here.former_states
    again = await restore(here, backup)
    assert here.former_states == [ours, again]
    assert (ours / "ledger.jsonl").read_text() == "ours"


async def test_state_is_replaced_only_after_a_yes(backup: Path, here: Project) -> None:
    refused = CliRunner().invoke(app, ["restore", str(backup)])
    assert isinstance(refused.exception, PlatformError)
    assert "--yes" in str(refused.exception)
    assert not here.former_states


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    name=st.sampled_from(["../x", "/tmp/x", "a/../../x", "a/b/../../../x", "..", "./../x"]),
    kind=st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE]),
)
def test_nothing_is_unpacked_outside(tmp_path: Path, name: str, kind: bytes) -> None:
    refuses(tmp_path, name, kind, "would lie outside")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_only_files_and_directories_are_unpacked(tmp_path: Path, kind: bytes) -> None:
    refuses(tmp_path, "harmless", kind, "neither a file nor a directory")


def refuses(tmp_path: Path, name: str, kind: bytes, reason: str) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    path = tmp_path / "crafted.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(member)
    with pytest.raises(PlatformError, match=reason):
        archive.unpack(path, tmp_path / "inner")


def test_a_manifest_cannot_name_other_files(tmp_path: Path) -> None:
    manifest = archive.Manifest.model_validate(
        {
            "waybill_version": "0.1.0",
            "postgres_version": "18.6",
            "schemas": {},
            "size": 0,
            "taken_at": "2026-01-01T00:00:00Z",
            "members": dict.fromkeys((*archive.NEEDED, "secrets/../../x.json"), ""),
        }
    )
    path = tmp_path / "crafted.tar.gz"
    content = manifest.model_dump_json().encode()
    member = tarfile.TarInfo("manifest.json")
    member.size = len(content)
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(member, io.BytesIO(content))
    with pytest.raises(PlatformError, match="other files"):
        archive.extract(path, tmp_path / "inner")
