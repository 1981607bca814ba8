"""Tells trouble that passes by itself from trouble that will be the same tomorrow."""

import asyncio

import aiohttp
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeout

# SQLSTATE classes: connection, transaction rollback (deadlock, serialization), resources (disk,
# memory, connections), object state (lock not available), operator intervention (shutdown,
# statement timeout), system error. https://www.postgresql.org/docs/current/errcodes-appendix.html
_PASSING_SQLSTATES = ("08", "40", "53", "55", "57", "58")

# Bytes that are not text to PostgreSQL, and characters that its JSON cannot hold.
_UNSTORABLE_SQLSTATES = {"22021", "22P05"}


def is_unstorable_text(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and _sqlstate(error) in _UNSTORABLE_SQLSTATES


def _sqlstate(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


def is_transient(error: BaseException) -> bool:
    """True if the same work may succeed later without anyone changing anything."""
    if isinstance(error, DBAPIError):
        passing = error.connection_invalidated or isinstance(error, InterfaceError)
        return passing or _sqlstate(error).startswith(_PASSING_SQLSTATES)
    return isinstance(
        error, OSError | TimeoutError | asyncio.TimeoutError | PoolTimeout | aiohttp.ClientError
    ) or bool(getattr(error, "transient", False))
