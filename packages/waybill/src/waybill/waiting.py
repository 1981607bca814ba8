"""Waits for conditions, never for time, and never without a deadline."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import aiohttp

from waybill.ports import HOST

Condition = Callable[[], Awaitable[bool]]


async def until(condition: Condition, *, seconds: float, every: float = 0.2) -> None:
    """Returns once `condition` holds; raises TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110  # no event tells what other processes do
            await asyncio.sleep(every)


async def listens(port: int) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(HOST, port), timeout=1)
    except OSError:  # TimeoutError is one, too
        return False
    writer.close()
    return True


def all_listen(*ports: int) -> Condition:
    async def condition() -> bool:
        return all([await listens(port) for port in ports])

    return condition


def answers(url: str, headers: Mapping[str, str] | None = None) -> Condition:
    """Holds once a GET of `url` is answered with a 2xx."""

    async def condition() -> bool:
        timeout = aiohttp.ClientTimeout(total=2)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
                session.get(url) as response,
            ):
                return response.ok
        except (aiohttp.ClientError, TimeoutError):
            return False

    return condition
