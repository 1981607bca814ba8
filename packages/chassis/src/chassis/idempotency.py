"""Idempotency keys: a repeated request gets the first one's answer and has no second effect."""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Header
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chassis.problems import Problem
from chassis.tables import IdempotencyKey


class IdempotencyKeyMissing(Problem):
    status = 400


class IdempotencyKeyReused(Problem):
    status = 422


async def _given_key(  # FastAPI would run any other in a thread
    key: Annotated[
        str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200)
    ] = None,
) -> str:
    if key is None:
        raise IdempotencyKeyMissing("Send an Idempotency-Key header, so that a retry is safe.")
    return key


RequestKey = Annotated[str, Depends(_given_key)]


async def once(
    session: AsyncSession,
    caller: object,
    key: str,
    request: BaseModel | str,
    effect: Callable[[], Awaitable[BaseModel]],
    *,
    status: int = 201,
) -> JSONResponse:
    """Runs `effect` unless this caller has used the key before, and answers with its result.

    The key is committed with the effect. A concurrent repeat waits for the first to end; a key
    that comes with another request raises `IdempotencyKeyReused`.
    """
    fingerprint = _fingerprint(request)
    claim = insert(IdempotencyKey).values(caller=str(caller), key=key, fingerprint=fingerprint)
    claimed = await session.scalar(claim.on_conflict_do_nothing().returning(IdempotencyKey.key))
    if claimed is None:
        return await _first_answer(session, str(caller), key, fingerprint)
    answer = (await effect()).model_dump(mode="json")
    await session.execute(
        update(IdempotencyKey)
        .where(IdempotencyKey.caller == str(caller), IdempotencyKey.key == key)
        .values(status=status, answer=answer)
    )
    return JSONResponse(answer, status)


def _fingerprint(request: BaseModel | str) -> str:
    """The kind of request is a part of it: one key must not answer another route's request."""
    body = request if isinstance(request, str) else request.model_dump_json()
    text = f"{type(request).__name__} {body}"
    return hashlib.sha256(text.encode()).hexdigest()


async def _first_answer(
    session: AsyncSession, caller: str, key: str, fingerprint: str
) -> JSONResponse:
    first = (await session.scalars(select(IdempotencyKey).filter_by(caller=caller, key=key))).one()
    if first.fingerprint != fingerprint:
        raise IdempotencyKeyReused("This Idempotency-Key came before with a different request.")
    return JSONResponse(first.answer, first.status or 200, headers={"Idempotent-Replayed": "true"})
