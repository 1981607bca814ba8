"""How many requests a caller may make; each replica counts for itself."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import structlog
from cachetools import LRUCache
from chassis.sidecar import SidecarUnavailable, sidecar
from chassis.worker import Worker
from limits import RateLimitItem, parse
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from gateway.settings import GatewaySettings, gateway_settings

log = structlog.get_logger(__name__)

STORE = "configstore"
KEY_PREFIX = "rate-limits."
OFF = "off"

# Signing in costs the platform a password hash and a guesser nothing, so it is scarcer, by address;
# not so scarce that an office behind one address is locked out in the morning. The provider's
# webhooks prove themselves by their signature.
DEFAULTS: Mapping[str, str] = {
    "default": "300/minute",
    "users": "100/minute",
    "orders": "200/minute",
    "payments": "50/minute",
    "login": "60/minute",
    "register": "60/minute",
    "webhooks": "6000/minute",
}


class Windows(Storage):
    """Fixed windows in memory, so many at most: the one that was used longest ago gives way.

    The memory storage of `limits` grows with the number of callers and starts a thread to sweep.
    """

    STORAGE_SCHEME = None

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self._windows: LRUCache[str, tuple[int, float]] = LRUCache(capacity)

    @property
    def base_exceptions(self) -> type[Exception]:
        return KeyError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        count, ends = self._window(key)
        self._windows[key] = (count + amount, ends or time.time() + expiry)
        return count + amount

    def get(self, key: str) -> int:
        return self._window(key)[0]

    def get_expiry(self, key: str) -> float:
        return self._window(key)[1] or time.time()

    def _window(self, key: str) -> tuple[int, float]:
        window = self._windows.get(key)
        return window if window and window[1] > time.time() else (0, 0.0)

    def check(self) -> bool:
        return True

    def reset(self) -> None:
        self._windows.clear()

    def clear(self, key: str) -> None:
        self._windows.pop(key, None)


@dataclass(frozen=True)
class Allowance:
    """Whether the request may pass; how many more may, and when (seconds) the window ends."""

    name: str
    limit: RateLimitItem
    granted: bool
    remaining: int
    reset: int

    @property
    def headers(self) -> dict[str, str]:
        """RateLimit header fields for HTTP (draft-ietf-httpapi-ratelimit-headers)."""
        quota, window = self.limit.amount, self.limit.get_expiry()
        return {
            "RateLimit-Policy": f'"{self.name}";q={quota};w={window}',
            "RateLimit": f'"{self.name}";r={self.remaining};t={self.reset}',
        }


class RateLimits:
    """Limits by name: what `configure` was given, else the settings, else `DEFAULTS`."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._given = settings.waybill_rate_limits
        self._counts = FixedWindowRateLimiter(Windows(settings.rate_limited_callers))
        self._live: Mapping[str, str] = {}
        self._limits = self._merged()

    @property
    def off(self) -> bool:
        return self._given == OFF

    def configure(self, live: Mapping[str, str]) -> None:
        """A limit that cannot be read counts as absent, so that a slip does not open the gate."""
        if live != self._live:
            self._live = live
            self._limits = self._merged()
            log.info("rate_limits_changed", limits=self._limits)

    def _merged(self) -> dict[str, RateLimitItem]:
        return _parsed(DEFAULTS) | _parsed(_pairs(self._given)) | _parsed(self._live)

    def take(self, name: str, caller: str) -> Allowance | None:
        """Counts a request of this caller; None while limits are off."""
        if self.off:
            return None
        limit = self._limits.get(name) or self._limits["default"]
        granted = self._counts.hit(limit, name, caller)
        ends, remaining = self._counts.get_window_stats(limit, name, caller)
        return Allowance(name, limit, granted, remaining, max(1, math.ceil(ends - time.time())))


def _pairs(text: str) -> dict[str, str]:
    if text in {"", OFF}:
        return {}
    pairs = [pair.partition("=") for pair in text.split(",")]
    return {name.strip(): limit.strip() for name, _, limit in pairs}


def _parsed(texts: Mapping[str, str]) -> dict[str, RateLimitItem]:
    limits: dict[str, RateLimitItem] = {}
    for name, text in texts.items():
        try:
            limits[name] = parse(text)
        except ValueError:
            log.warning("rate_limit_not_understood", name=name, limit=text)
    return limits


rate_limits = RateLimits(gateway_settings())


async def read_live_limits() -> int:
    """Takes over what the configuration store says; while it is away, what it said last holds.

    Read again and again rather than subscribed to: a stream that broke in silence would leave
    a replica behind for ever.
    """
    try:
        found = await sidecar.configuration(STORE)
    except SidecarUnavailable as error:
        log.debug("live_rate_limits_unavailable", reason=error.detail)
        return 0
    ours = {key: text for key, text in found.items() if key.startswith(KEY_PREFIX)}
    rate_limits.configure({key.removeprefix(KEY_PREFIX): text for key, text in ours.items()})
    return 0


live_limits = Worker("rate_limits", read_live_limits, poll_seconds=10, interruptible=True)
