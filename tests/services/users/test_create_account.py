"""The command that the platform's staff accounts are made with."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from chassis.database import database
from chassis.identity import Role
from chassis.testing import logged
from contracts.users import UserRegistered, UserUpdated
from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine
from users.api import Registration
from users.create_account import create_account
from users.domain import Account, LoginSession

EMAIL = "staff@waybill.example"
PASSWORD = "correct horse battery staple"
LogIn = Callable[..., Awaitable[dict[str, Any]]]
STAFF = Registration(email=EMAIL, password=PASSWORD, name="Staff")

pytestmark = pytest.mark.usefixtures("db")


async def only_account() -> Account:
    async with database.transaction() as session:
        return (await session.scalars(select(Account))).one()


async def test_an_account_with_a_role_is_opened_and_announced(
    client: httpx.AsyncClient, log_in: LogIn
) -> None:
    await create_account(STAFF, Role.STAFF)

    headers = (await log_in(EMAIL))["headers"]
    assert (await client.get("/users/me", headers=headers)).json()["role"] == "staff"
    [event] = await logged(UserRegistered)
    assert (event.email, event.name) == (EMAIL, "Staff")


async def test_running_it_again_changes_nothing(client: httpx.AsyncClient, log_in: LogIn) -> None:
    await create_account(STAFF, Role.STAFF)
    before = await only_account()
    tokens = await log_in(EMAIL)

    await create_account(STAFF, Role.STAFF)

    after = await only_account()
    assert (after.password_hash, after.version) == (before.password_hash, before.version)
    assert len(await logged(UserRegistered)) == 1
    spent = {"refresh_token": tokens["refresh_token"]}
    assert (await client.post("/users/refresh", json=spent)).status_code == 200


async def test_another_role_is_set_and_announced() -> None:
    await create_account(STAFF, Role.STAFF)

    await create_account(STAFF, Role.ADMIN)

    assert (await only_account()).role == Role.ADMIN
    [event] = await logged(UserUpdated)
    assert event.user_version == 2


async def test_another_password_is_set_and_ends_the_sessions(log_in: LogIn) -> None:
    await create_account(STAFF, Role.STAFF)
    await log_in(EMAIL)

    await create_account(STAFF.model_copy(update={"password": "another password"}), Role.STAFF)

    async with database.transaction() as session:
        assert await session.scalar(select(func.count()).select_from(LoginSession)) == 0
    await log_in(EMAIL, "another password")


def test_a_refused_password_is_not_shown() -> None:
    with pytest.raises(ValidationError) as refusal:
        Registration(email=EMAIL, password="hunter2", name="Staff")

    assert "hunter2" not in str(refusal.value)


async def test_the_command_reads_the_password_from_standard_input(
    concurrent_db: AsyncEngine,
) -> None:
    url = concurrent_db.url.render_as_string(hide_password=False)
    bare = {"DATABASE_URL": url, "PATH": os.environ["PATH"], "ARGON2_MEMORY_KIB": "8"}
    command = ["-m", "users.create_account", "--email", EMAIL, "--name", "Carrier"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        "--role",
        "carrier",
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=bare,
    )

    _, errors = await process.communicate(f"{PASSWORD}\n".encode())

    assert process.returncode == 0, errors.decode()
    account = await only_account()
    assert (account.email, account.role) == (EMAIL, "carrier")
