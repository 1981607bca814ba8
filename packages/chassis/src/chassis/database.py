"""The one connection pool of a process, and its transactions."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine

from chassis.failpoints import failpoint
from chassis.settings import settings

_ON_COMMIT = "on_commit"


class Database:
    """A process has one database; `connect` before the first transaction, `close` at the end."""

    def __init__(self) -> None:
        self._bind: AsyncEngine | AsyncConnection | None = None

    @property
    def bind(self) -> AsyncEngine | AsyncConnection:
        if self._bind is None:
            raise RuntimeError("database.connect() was not called")
        return self._bind

    def connect(self, name: str) -> None:
        """`name` is what the server's activity view shows for our connections."""
        self._bind = create_async_engine(
            settings().database_url,
            pool_size=settings().database_pool_size,
            max_overflow=0,
            pool_timeout=5,
            connect_args={"timeout": 5, "command_timeout": 20, "server_settings": _limits(name)},
        )

    def use(self, bind: AsyncEngine | AsyncConnection | None) -> None:
        """Binds to an engine or connection that somebody else owns; tests roll theirs back."""
        self._bind = bind

    async def close(self) -> None:
        if isinstance(self._bind, AsyncEngine):
            await self._bind.dispose()
        self._bind = None

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncSession]:
        """Commits when the block ends, rolls back when it raises; then runs `on_commit` calls."""
        session = AsyncSession(
            self.bind, expire_on_commit=False, join_transaction_mode="create_savepoint"
        )
        async with session, session.begin():
            yield session
        calls: dict[Callable[[], None], None] = session.info.get(_ON_COMMIT, {})
        for call in calls:
            call()

    async def ping(self) -> None:
        async with self.transaction() as session:
            await session.execute(text("SELECT 1"))


def _limits(name: str) -> dict[str, str]:
    return {
        "application_name": name,
        "statement_timeout": "15s",
        "lock_timeout": "10s",
        "idle_in_transaction_session_timeout": "30s",
        "jit": "off",  # short statements: compiling them costs more than running them
    }


def on_commit(session: AsyncSession, call: Callable[[], None]) -> None:
    """Runs `call` once after the session's transaction has committed, and not if it rolls back."""
    session.info.setdefault(_ON_COMMIT, {})[call] = None


database = Database()


async def _request_transaction() -> AsyncIterator[AsyncSession]:
    async with database.transaction() as session:
        yield session
        failpoint("request.before-commit")
    failpoint("request.after-commit")


# The scope makes FastAPI commit before it answers. With the default one it answers first, and a
# commit that then fails would have been announced as a success.
Session = Annotated[AsyncSession, Depends(_request_transaction, scope="function")]
