"""A client as one wishes them: it repeats what may be repeated, in measure, under the same key."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import TypeVar

import aiohttp

from waybill.errors import PlatformError
from waybill.shop import Refused

AnswerT = TypeVar("AnswerT")

TRIES = 20
PATIENCE_SECONDS = 60
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 5.0

NOT_NOW = frozenset({502, 503, 504})
NO_ANSWER = "no answer"
_TOO_MANY_REQUESTS = 429


class GaveUp(Exception):  # noqa: N818  # named for what happened
    """The platform had no answer within the client's patience."""


class RateLimited(PlatformError):  # noqa: N818  # named for what happened
    def __init__(self, refusal: Refused) -> None:
        super().__init__(
            f"The platform limits the rate of requests: {refusal}",
            fix="start it for a load, without limits: WAYBILL_RATE_LIMITS=off waybill up",
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """One request, sent at `at` (seconds since the epoch); a repeated one is another sample.

    `error` is None for an answer with 2xx, else its status and what the platform calls the
    problem, such as `503 too-many-orders`, or `NO_ANSWER`.
    """

    kind: str
    at: float
    seconds: float
    error: str | None


class Client:
    """Keeps a sample of every request."""

    def __init__(self, seed: int) -> None:
        self.samples: list[Sample] = []
        self.errors = 0
        self.given_up = 0
        self._jitter = Random(seed)  # noqa: S311  # spreads the repeats, keeps no secret

    async def insist(self, kind: str, request: Callable[[], Awaitable[AnswerT]]) -> AnswerT:
        """Repeats `request` while it gets no answer, or one that says not now.

        Raises `Refused` for any other answer, `RateLimited`, or `GaveUp`.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        for tried in range(TRIES):
            try:
                return await self._timed(kind, request)
            except Refused as refusal:
                if refusal.status == _TOO_MANY_REQUESTS:
                    raise RateLimited(refusal) from None
                if refusal.status not in NOT_NOW:
                    raise
                at_least = refusal.retry_after
            except (aiohttp.ClientError, TimeoutError):
                at_least = 0
            pause = at_least + self._pause(tried)
            if time.monotonic() + pause > deadline:
                break
            await asyncio.sleep(pause)
        self.given_up += 1
        raise GaveUp(kind)

    def _pause(self, tried: int) -> float:
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**tried)
        return self._jitter.uniform(longest / 2, longest)

    async def _timed(self, kind: str, request: Callable[[], Awaitable[AnswerT]]) -> AnswerT:
        at, started = time.time(), time.perf_counter()
        error: str | None = None
        try:
            return await request()
        except Refused as refusal:
            error = refusal.name
            raise
        except (aiohttp.ClientError, TimeoutError, asyncio.CancelledError):
            error = NO_ANSWER
            raise
        finally:
            self.errors += error is not None
            self.samples.append(Sample(kind, at, time.perf_counter() - started, error))


@contextmanager
def first_error() -> Generator[None]:
    """What ends a group of tasks is raised by itself, so that a person can read it."""
    try:
        yield
    except ExceptionGroup as group:
        raise group.exceptions[0] from group
