"""Puts a backup in the place of what there is, in one step.

A whole state directory is laid out beside the present one and checked. Then the two change their
names in one system call: whatever crashes, `.waybill` is the one or the other, complete. What is
not in a backup (the broker's queues, caches, certificates, the mail sink) begins anew.
"""

import asyncio
import ctypes
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from waybill import leftovers, lock
from waybill.backup import archive
from waybill.errors import PlatformError
from waybill.logs import last_lines
from waybill.parts import migrations, postgres, unprivileged
from waybill.parts.command import infrastructure
from waybill.parts.postgres import Cluster
from waybill.processes import run
from waybill.progress import Board
from waybill.project import Project

UNFINISHED = "unfinished-restore"
"""A file that says of a directory put aside that it is not the former state, but a draft."""
_VERIFY_SECONDS = 3600
_HERE = -100  # AT_FDCWD: paths are as they are
_EXCHANGE = 2  # RENAME_EXCHANGE


def holds_state(project: Project) -> bool:
    return (project.state / "postgres").exists()


def check(project: Project, path: Path) -> archive.Manifest:
    """A PlatformError for an archive that cannot be restored here; `up` migrates older ones."""
    manifest = archive.read_manifest(path)
    fix = f"restore it with Waybill {manifest.waybill_version}"
    if manifest.postgres_major != postgres.major():
        raise PlatformError(
            f"{path} was taken with PostgreSQL {manifest.postgres_version}; here is"
            f" {postgres.major()}, which cannot read it.",
            fix=fix,
        )
    for service, revisions in manifest.schemas.items():
        if strange := set(revisions) - migrations.known(project, service):
            raise PlatformError(
                f"{path} is of another release: nothing here leads on from revision"
                f" {', '.join(sorted(strange))} of {service}'s database.",
                fix=fix,
            )
    return manifest


def restore(project: Project, path: Path, board: Board) -> Path | None:
    """Where the former state lies now; None if there was none."""
    manifest = check(project, path)
    with _down(project):
        leftovers.end(project)
        project.logs.mkdir(parents=True, exist_ok=True)
        had_state = holds_state(project)
        _remove_drafts(project)
        draft = project.former_state(f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
        try:
            draft.mkdir()
            (draft / UNFINISHED).touch()
            _lay_out(project, path, manifest, draft, board)
            with board.stage("Exchange"):
                (project.state / UNFINISHED).unlink(missing_ok=True)
                os.sync()
                exchange(draft, project.state)
        except BaseException:
            _remove_drafts(project)
            raise
        (project.state / UNFINISHED).unlink()
    if had_state:
        return draft
    unprivileged.remove_state(draft)
    return None


@contextmanager
def _down(project: Project) -> Generator[None]:
    """Nothing of this checkout can be started while the block runs."""
    if lock.holder(project) is not None:
        raise PlatformError("The platform is up.", fix="waybill down")
    with lock.hold(project):
        yield


def _lay_out(
    project: Project, path: Path, manifest: archive.Manifest, draft: Path, board: Board
) -> None:
    members, cluster = draft / "archive", postgres.cluster_in(draft)
    archive.require_room(manifest.size, draft, cluster.home)
    with board.stage("Archive") as stage:
        stage.detail = f"{archive.mebibytes(manifest.size)} to lay out and compare"
        archive.extract(path, members)
    with board.stage("Databases") as stage:
        stage.detail = "laying out and comparing"
        _unpack_cluster(cluster, members)
        asyncio.run(_verify(project, cluster, members))
    with board.stage("Payment provider, rate limits, secrets, ledger"):
        shutil.rmtree((members / archive.CLUSTER).parent)
        for part in members.iterdir():
            part.rename(draft / part.name)
        members.rmdir()


def _unpack_cluster(cluster: Cluster, members: Path) -> None:
    archive.unpack(members / archive.CLUSTER, cluster.data)
    archive.unpack(members / archive.WAL, cluster.data / "pg_wal")
    cluster.data.chmod(0o700)
    if cluster.uid is not None:
        for path in (cluster.data, *cluster.data.rglob("*")):
            os.chown(path, cluster.uid, -1, follow_symlinks=False)


async def _verify(project: Project, cluster: Cluster, members: Path) -> None:
    """With PostgreSQL's own manifest of the copy, and its write-ahead log."""
    manifest = members / archive.CLUSTER_MANIFEST
    program = cluster.programs / "pg_verifybackup"
    argv = [str(program), "--manifest-path", str(manifest), str(cluster.data)]
    command = infrastructure(project, "restore", argv)
    if await run(command, _VERIFY_SECONDS) != 0:
        end = f"The end of {command.log}:\n{last_lines(command.log)}"
        raise PlatformError(f"The databases in the backup are damaged. {end}")


def _remove_drafts(project: Project) -> None:
    for state in project.former_states:
        if (state / UNFINISHED).exists():
            unprivileged.remove_state(state)


def exchange(one: Path, other: Path) -> None:
    """Python has no name for it: renameat2(2) swaps two names, and there is no moment between."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE):
        reason = os.strerror(ctypes.get_errno())
        raise PlatformError(
            f"The file system cannot exchange {one} and {other}: {reason}.",
            fix="restore into a checkout on a local file system, such as ext4, XFS or Btrfs",
        )
