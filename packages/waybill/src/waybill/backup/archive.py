"""The file of a backup: a compressed tar that begins with a manifest of everything in it.

Whoever reads one trusts nothing in it: names, sizes and contents are checked before use.
"""

import gzip
import hashlib
import io
import os
import re
import shutil
import tarfile
import zlib
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import IO

from pydantic import BaseModel, ValidationError

from waybill.errors import PlatformError

FORMAT = 1
LEDGER = "ledger.jsonl"
SECRETS = "secrets"
PROVIDER = "provider/provider.db"
LIMITS = "valkey/appendonly.aof"
CLUSTER = "postgres/base.tar"
WAL = "postgres/pg_wal.tar"
CLUSTER_MANIFEST = "postgres/backup_manifest"

_MANIFEST = "manifest.json"
_MEMBER = re.compile(
    "|".join(
        (
            r"secrets/[a-z-]+\.(json|pgpass)",
            *map(re.escape, (LEDGER, PROVIDER, LIMITS, CLUSTER, WAL, CLUSTER_MANIFEST)),
        )
    )
)
NEEDED = {CLUSTER, WAL, CLUSTER_MANIFEST, f"{SECRETS}/platform.json"}
_LONGEST_MANIFEST = 1_000_000
_BROKEN = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile)
_TWICE = (FileExistsError, NotADirectoryError, IsADirectoryError)
"""What it takes to write a name a second time; the folder was empty."""


class Manifest(BaseModel):
    """`members` are the SHA-256 sums of all other members by name, `size` is their bytes in all.

    `schemas` are the revisions that each service's database was migrated to.
    """

    format: int = FORMAT
    waybill_version: str
    postgres_version: str
    schemas: dict[str, list[str]]
    taken_at: datetime
    size: int
    members: dict[str, str]

    @property
    def postgres_major(self) -> str:
        return self.postgres_version.partition(".")[0]


def checksums(folder: Path) -> dict[str, str]:
    """Of every file below the folder, by its name as a member."""
    return {path.relative_to(folder).as_posix(): _checksum(path) for path in _files(folder)}


def size_of(folder: Path) -> int:
    """The bytes in all files below."""
    return sum(path.stat().st_size for path in _files(folder))


def mebibytes(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def require_room(size: int, *folders: Path) -> None:
    """For as many bytes in each of the folders; those on one disk share what is free there."""
    sharing = Counter(folder.stat().st_dev for folder in folders)
    for folder in folders:
        needed, free = size * sharing[folder.stat().st_dev], shutil.disk_usage(folder).free
        if free < needed:
            raise PlatformError(
                f"{mebibytes(free)} are free on the disk of {folder}, {mebibytes(needed)} needed.",
                fix="free some space there",
            )


def write(path: Path, folder: Path, manifest: Manifest) -> None:
    """Makes the archive of what lies in the folder; under its name only once it is complete."""
    if strangers := _strangers(manifest):
        raise RuntimeError(f"no reader would accept {strangers}")
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)
    try:
        with open(draft, "xb", opener=_private) as file:  # Path.open has no opener
            with tarfile.open(fileobj=file, mode="w:gz", compresslevel=3) as tar:
                _add(tar, _MANIFEST, io.BytesIO(manifest.model_dump_json(indent=2).encode()))
                for name in manifest.members:
                    with (folder / name).open("rb") as content:
                        _add(tar, name, content)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
        _sync_directory(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def read_manifest(path: Path) -> Manifest:
    """Raises a PlatformError for what is no backup, or is not one that this release can read."""
    with _opened(path) as tar:
        return _manifest(path, tar)


def extract(path: Path, folder: Path) -> Manifest:
    """Lays the members out in the folder; a PlatformError unless all are there, as they were."""
    with _opened(path) as tar:
        manifest = _manifest(path, tar)
        room = manifest.size
        while member := tar.next():  # iterating would begin with the manifest again
            room -= member.size
            if member.name not in manifest.members or not member.isfile():
                raise _damaged(path, f"{member.name!r} does not belong in it")
            if room < 0:
                raise _damaged(path, "it holds more than its manifest says")
            _copy(tar, member, folder / member.name)
    found = checksums(folder)
    for name, checksum in manifest.members.items():
        if found.get(name) != checksum:
            raise _damaged(path, f"{name} is {'not the same' if name in found else 'missing'}")
    return manifest


def unpack(path: Path, folder: Path) -> None:
    """The files and directories of a plain tar, with their names and contents and nothing else."""
    with _opened(path) as tar:
        for member in tar:
            target = folder / _inside(path, member.name)
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True, mode=0o700)
            elif member.isfile():
                _copy(tar, member, target)
            else:
                raise _damaged(path, f"{member.name!r} is neither a file nor a directory")


def _manifest(path: Path, tar: tarfile.TarFile) -> Manifest:
    first = tar.next()
    content = tar.extractfile(first) if first and first.name == _MANIFEST else None
    if content is None:
        raise _damaged(path, "it does not begin with a manifest")
    try:
        manifest = Manifest.model_validate_json(content.read(_LONGEST_MANIFEST))
    except ValidationError:
        raise _damaged(path, "its manifest cannot be read") from None
    if manifest.format != FORMAT:
        raise PlatformError(
            f"{path} has format {manifest.format}; this release reads {FORMAT}.",
            fix=f"restore it with Waybill {manifest.waybill_version}",
        )
    if _strangers(manifest) or not manifest.members.keys() >= NEEDED:
        raise _damaged(path, "its manifest names other files than a backup has")
    return manifest


def _strangers(manifest: Manifest) -> list[str]:
    return [name for name in manifest.members if not _MEMBER.fullmatch(name)]


def _inside(path: Path, name: str) -> PurePosixPath:
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise _damaged(path, f"{name!r} would lie outside of it")
    return relative


def _copy(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    content = tar.extractfile(member)
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(target, "xb", opener=_private) as file:
        if content is not None:
            shutil.copyfileobj(content, file)


def _add(tar: tarfile.TarFile, name: str, content: IO[bytes]) -> None:
    member = tarfile.TarInfo(name)
    member.size = content.seek(0, io.SEEK_END)
    member.mode = 0o600
    content.seek(0)
    tar.addfile(member, content)


@contextmanager
def _opened(path: Path) -> Generator[tarfile.TarFile]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise PlatformError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        with file, tarfile.open(fileobj=file) as tar:
            yield tar
    except _BROKEN as error:
        raise _damaged(path, str(error) or type(error).__name__) from None
    except _TWICE as error:
        raise _damaged(path, f"{error.filename!r} is in it twice") from None


def _damaged(path: Path, reason: str) -> PlatformError:
    return PlatformError(
        f"{path} is no backup, or is damaged: {reason}.", fix="use another copy, or another backup"
    )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
