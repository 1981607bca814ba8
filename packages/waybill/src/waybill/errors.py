"""What this command tells a person when it cannot go on."""

from collections.abc import Generator
from contextlib import contextmanager


class PlatformError(Exception):
    """Says what went wrong and, where it is known, what to do about it."""

    def __init__(self, message: str, *, fix: str = "") -> None:
        super().__init__(message)
        self.fix = fix

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\nFix: {self.fix}" if self.fix else message


@contextmanager
def first_failure() -> Generator[None]:
    """One reason is enough: what a failure cancelled, or what failed with it, only distracts."""
    try:
        yield
    except ExceptionGroup as group:
        failures = [error for error in group.exceptions if isinstance(error, PlatformError)]
        raise (failures or group.exceptions)[0] from None
