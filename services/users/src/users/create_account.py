"""Opens an account with any role, or resets one: `python -m users.create_account --help`."""

import argparse
import asyncio
import os
import sys
from datetime import UTC, datetime

from chassis.database import database
from chassis.event_log import append
from chassis.identity import Role
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from users import store
from users.api import Registration
from users.domain import Account, Profile, new_account
from users.passwords import passwords


async def create_account(wanted: Registration, role: Role) -> None:
    """Another name, role or password takes the place of what is there; the same changes nothing."""
    password_hash = await _hash_of(wanted)
    profile = Profile(name=wanted.name, role=role)
    row = new_account(wanted.email, password_hash, profile, datetime.now(UTC))
    async with database.transaction() as session:
        if account := await store.add_account(session, row):
            await append(session, account.registered())
        elif account := await store.account_of(session, wanted.email):
            await _reset(session, account, password_hash, profile)


async def _hash_of(wanted: Registration) -> str:
    """The one that is stored if it is this password's; else a new one."""
    async with database.transaction() as session:
        account = await store.account_of(session, wanted.email)
    stored = account.password_hash if account else None
    if stored and await passwords.verify(stored, wanted.password):
        return stored
    return await passwords.hash(wanted.password)


async def _reset(
    session: AsyncSession, account: Account, password_hash: str, profile: Profile
) -> None:
    if account.password_hash != password_hash:
        account.password_hash = password_hash
        await store.end_sessions(session, account.id)
    if (account.name, account.role) != (profile.name, profile.role):
        changes = {"name": profile.name, "role": profile.role}
        if event := account.change(changes, account.version, datetime.now(UTC)):
            await append(session, event)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="users.create_account",
        description="The password is read from standard input, the database from DATABASE_URL.",
    )
    parser.add_argument("--email", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--role", type=Role, choices=list(Role), required=True)
    return parser.parse_args()


async def main() -> None:
    given = _arguments()
    password = sys.stdin.readline().rstrip("\n")
    wanted = Registration(email=given.email, name=given.name, password=password)
    database.use(create_async_engine(os.environ["DATABASE_URL"], poolclass=NullPool))
    await create_account(wanted, given.role)


if __name__ == "__main__":
    asyncio.run(main())
