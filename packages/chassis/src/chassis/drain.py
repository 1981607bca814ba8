"""Whether this process has been told to stop, and only finishes what it has begun."""

import signal


def has_begun() -> bool:
    """True from SIGTERM on.

    The server knows, whose method handles the signal; without one nothing ever drains.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return bool(getattr(server, "should_exit", False))
