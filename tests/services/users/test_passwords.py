"""Argon2 in its threads: bounded, off the event loop, and as slow for nobody as for somebody."""

import asyncio
import threading

import pytest
from users.passwords import PasswordQueueFull, Passwords
from users.settings import PasswordSettings


def light(**changes: int) -> Passwords:
    cheap = {"argon2_memory_kib": 8, "argon2_time_cost": 1}
    return Passwords(PasswordSettings(**cheap | changes))


async def test_a_hash_verifies_its_own_password_only() -> None:
    passwords = light()
    stored = await passwords.hash("secret")

    assert stored.startswith("$argon2id$")
    assert await passwords.verify(stored, "secret")
    assert not await passwords.verify(stored, "Secret")


async def test_nobody_has_a_password_but_is_checked_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passwords = light()
    checked: list[str] = []

    def matches(stored: str, _: str) -> bool:
        checked.append(stored)
        return True

    monkeypatch.setattr(passwords, "_matches", matches)

    assert not await passwords.verify(None, "secret")
    [stored] = checked
    assert stored.startswith("$argon2id$v=19$m=8,t=1,p=1$")


async def test_a_hash_is_renewed_when_the_parameters_change() -> None:
    passwords = light()
    stored = await passwords.hash("secret")
    stricter = light(argon2_time_cost=2)

    renewed = await stricter.renewed(stored, "secret")

    assert renewed != stored
    assert await stricter.verify(renewed, "secret")
    assert await stricter.renewed(renewed, "secret") == renewed


async def test_a_full_queue_is_refused_at_once_and_frees_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passwords = light(password_threads=1, password_queue=1)
    released = threading.Event()

    def wait(*_: str) -> bool:
        return released.wait(10)

    monkeypatch.setattr(passwords, "_matches", wait)
    running = [asyncio.create_task(passwords.verify("stored", "secret")) for _ in range(2)]
    await asyncio.sleep(0)  # both are submitted, one of them waits in the queue

    with pytest.raises(PasswordQueueFull):
        await passwords.verify("stored", "secret")

    released.set()
    assert await asyncio.gather(*running) == [True, True]
    assert await passwords.verify("stored", "secret")


async def test_a_caller_who_gives_up_frees_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    passwords = light(password_threads=1, password_queue=0)
    released = threading.Event()

    def wait(*_: str) -> bool:
        return released.wait(10)

    monkeypatch.setattr(passwords, "_matches", wait)
    running = asyncio.create_task(passwords.verify("stored", "secret"))
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    released.set()

    assert await passwords.verify("stored", "secret")
