"""What this command tells a person when it cannot go on."""

from pathlib import Path


class Failure(Exception):
    """Says what went wrong and, where it is known, what to do about it."""

    def __init__(self, message: str, *, fix: str = "") -> None:
        super().__init__(message)
        self.fix = fix

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\nFix: {self.fix}" if self.fix else message


def last_lines(log: Path, count: int = 12) -> str:
    """The end of a log, indented; at most the last 16 KiB are read."""
    if not log.exists():
        return "  (no log)"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 16_384))
        lines = file.read().decode(errors="replace").splitlines()[-count:]
    return "\n".join(f"  {line}" for line in lines) or "  (the log is empty)"
