"""Services whose clock is wrong: libfaketime under the Python of one service.

The supervisor starts every service again exactly as it was, so what is to be different lies in a
file, at which each Python looks when it starts.
"""

import os
import sysconfig
from pathlib import Path

LIBRARY = Path(f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}/faketime/libfaketime.so.1")

_AT_START = f"""\
import os, pathlib, sys

skew = pathlib.Path(__file__).with_name(os.environ.get("APP_ID", "") + ".skew")
if skew.is_file() and "FAKETIME" not in os.environ:
    os.environ.update(
        LD_PRELOAD="{LIBRARY}", FAKETIME=skew.read_text(), FAKETIME_DONT_FAKE_MONOTONIC="1"
    )
    os.execv(sys.executable, sys.orig_argv)
"""


class Clocks:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prepare(self) -> None:
        """Before the platform starts."""
        self._folder.mkdir(exist_ok=True)
        (self._folder / "sitecustomize.py").write_text(_AT_START)
        os.environ["PYTHONPATH"] = str(self._folder)

    def set_wrong(self, service: str, minutes: int) -> None:
        """From the service's next start on."""
        assert LIBRARY.exists(), "libfaketime is missing: apt-get install faketime"
        self._skew(service).write_text(f"{minutes:+d}m")

    def set_right(self, service: str) -> None:
        self._skew(service).unlink()

    def _skew(self, service: str) -> Path:
        return self._folder / f"{service}.skew"
