"""Argon2id off the event loop, in few threads and with a bounded queue before them."""

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from chassis.problems import Unavailable

from users.settings import PasswordSettings

P = ParamSpec("P")
T = TypeVar("T")


class PasswordQueueFull(Unavailable):
    """A burst waits in line up to here; a flood is told to come back."""


class Passwords:
    """Hashes and verifies; every call may raise `PasswordQueueFull`."""

    def __init__(self, settings: PasswordSettings) -> None:
        self._argon2 = PasswordHasher(
            time_cost=settings.argon2_time_cost,
            memory_cost=settings.argon2_memory_kib,
            parallelism=settings.argon2_parallelism,
        )
        self._threads = ThreadPoolExecutor(settings.password_threads, "argon2")
        self._most = settings.password_threads + settings.password_queue
        self._pending = 0
        self._nobodys_hash = self._argon2.hash(secrets.token_urlsafe())

    async def hash(self, password: str) -> str:
        return await self._run(self._argon2.hash, password)

    async def verify(self, stored: str | None, password: str) -> bool:
        """An account that does not exist, or has no password, takes as long to fail as any."""
        matches = await self._run(self._matches, stored or self._nobodys_hash, password)
        return matches and stored is not None

    async def renewed(self, stored: str, password: str) -> str:
        """The hash to keep from now on: another one if the parameters have changed since."""
        return await self.hash(password) if self._argon2.check_needs_rehash(stored) else stored

    def _matches(self, stored: str, password: str) -> bool:
        try:
            return self._argon2.verify(stored, password)
        except VerifyMismatchError:
            return False

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._pending >= self._most:
            raise PasswordQueueFull("Too many passwords are being checked at the moment.")
        self._pending += 1
        future = asyncio.wrap_future(self._threads.submit(work, *args, **kwargs))
        future.add_done_callback(self._finished)
        return await future

    def _finished(self, _: object) -> None:
        self._pending -= 1


passwords = Passwords(PasswordSettings())
