"""A disk of its own for the database and the broker, which can be full, or lose its power."""

import fcntl
import os
import struct
import subprocess
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from waybill.parts import postgres
from waybill.project import Project
from waybill.waiting import until

_BYTES = 6 * 2**30  # of a sparse file
_SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN
_WITHOUT_FLUSH = struct.pack("I", 2)
_LAST_BLOCKS = 64


class Disk:
    """An ext4 in a file, mounted where the data lie; the mount namespace is our own."""

    def __init__(self, image: Path, project: Project) -> None:
        self._image = image
        self._mount_point = image.with_suffix("")
        self._mounted: list[Path] = []
        self._places = {
            "postgres": postgres.locate(project).home,
            "rabbitmq": project.state / "rabbitmq",
        }

    def make(self) -> None:
        """Empty, in a new file: somebody may still hold the one before."""
        self._image.unlink(missing_ok=True)
        with self._image.open("wb") as file:
            file.truncate(_BYTES)
        _run("mkfs.ext4", "-q", "-m", "0", str(self._image))
        self.mount()

    def mount(self) -> None:
        self._mount_point.mkdir(exist_ok=True)
        self._mount("-o", "loop", str(self._image), at=self._mount_point)
        for name, place in self._places.items():
            place.mkdir(parents=True, exist_ok=True)
            part = self._mount_point / name
            part.mkdir(exist_ok=True)
            owner = place.stat()
            os.chown(part, owner.st_uid, owner.st_gid)
            part.chmod(owner.st_mode)
            self._mount("--bind", str(part), at=place)

    def _mount(self, *what: str, at: Path) -> None:
        _run("mount", *what, str(at))
        self._mounted.append(at)

    def give_up(self) -> None:
        """Whoever holds it still; for others it is gone."""
        self._unmount("--lazy")

    def _unmount(self, *how: str) -> None:
        while self._mounted:
            _run("umount", *how, str(self._mounted[-1]))
            self._mounted.pop()

    async def remount(self) -> None:
        """Once nobody holds it any more, which replays the journal."""

        async def unmounted() -> bool:
            try:
                self._unmount()
            except subprocess.CalledProcessError:
                return False
            return True

        await until(unmounted, seconds=60, every=0.2)
        self.mount()

    def cut_power(self) -> None:
        """From now on every access fails; what was written and not synced is gone.

        It is what file systems are tested with (xfstests' `godown`): neither dirty pages nor the
        journal in memory reach the disk.
        """
        descriptor = os.open(self._mount_point, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, _WITHOUT_FLUSH)
        finally:
            os.close(descriptor)

    @contextmanager
    def full(self) -> Generator[Callable[[], None]]:
        """Yields what fills it up again: others may give up a file meanwhile, such as a log."""
        ballast = self._mount_point / "ballast"
        try:
            with ballast.open("wb") as file:
                fill_up = partial(self._fill_up, file.fileno())
                fill_up()
                yield fill_up
        finally:
            ballast.unlink()

    def _fill_up(self, descriptor: int) -> None:
        free = os.statvfs(self._mount_point)
        size = os.lseek(descriptor, 0, os.SEEK_END)
        if free.f_bavail > _LAST_BLOCKS:
            os.posix_fallocate(descriptor, size, (free.f_bavail - _LAST_BLOCKS) * free.f_frsize)
        _fill_last_blocks(descriptor)


def _fill_last_blocks(descriptor: int) -> None:
    """The file system's own tables may or may not need them."""
    os.lseek(descriptor, 0, os.SEEK_END)
    try:
        while True:
            os.write(descriptor, bytes(4096))
            os.fsync(descriptor)
    except OSError:
        return


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True)  # argv is ours
