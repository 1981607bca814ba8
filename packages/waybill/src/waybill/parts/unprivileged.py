"""Room for PostgreSQL when we are root, as whom it refuses to run.

It then runs as `nobody`, who cannot enter a checkout under /root. What it needs lies below
/var/lib/waybill in that case, and the checkout's state directory links there.
"""

import os
import pwd
import secrets
import shutil
from pathlib import Path

USER = "nobody"
_ROOM = Path("/var/lib/waybill")
_ENTERED_BY_ALL = 0o755


def directory(place: Path, user: pwd.struct_passwd) -> Path:
    """A directory of the user's own at this place, or behind a link there."""
    if not place.is_symlink() and not place.exists():
        _make(place)
    os.chown(place, user.pw_uid, user.pw_gid)
    place.chmod(0o700)
    return place.resolve()


def reachable(package: Path, version: str) -> Path:
    """An installed package that everybody can read: itself, or a copy with its libraries."""
    if _everybody_reaches(package):
        return package
    copy = _ROOM / f"{package.name}-{version}"
    if not copy.exists():
        draft = copy.with_name(f"{copy.name}.{os.getpid()}")
        _open(draft)
        for directory in package.parent.glob(f"{package.name}*"):  # <package>.libs beside it
            shutil.copytree(directory, draft / directory.name, symlinks=True)
        draft.rename(copy)
    return copy / package.name


def remove(place: Path) -> None:
    """Removes what `directory` made, the link's target included."""
    if place.is_symlink():
        shutil.rmtree(place.resolve().parent, ignore_errors=True)
        place.unlink()


def remove_state(state: Path) -> None:
    """A whole state directory, with what of it lies elsewhere."""
    remove(state / "postgres")
    shutil.rmtree(state, ignore_errors=True)


def _make(place: Path) -> None:
    if _everybody_reaches(place):
        place.mkdir(parents=True)
        return
    home = _ROOM / secrets.token_hex(6)  # not after the place: what lay there may lie aside now
    _open(home)
    target = home / place.name
    target.mkdir()
    place.symlink_to(target)


def _open(directory: Path) -> None:
    """Made for everybody to enter, whatever the umask says."""
    for path in (_ROOM, directory):
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(_ENTERED_BY_ALL)


def _everybody_reaches(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents) if folder.exists())
