"""Problem Details (RFC 9457) for every error that leaves a service over HTTP."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from chassis.transience import is_transient, is_unstorable_text

log = structlog.get_logger(__name__)


class Problem(Exception):  # noqa: N818  # the RFC's word
    """A broken rule, told to the caller. Subclasses are named for the rule that was broken.

    `extra` becomes members of the problem document; `headers` go with the answer.
    """

    status: ClassVar[int] = 400
    headers: ClassVar[Mapping[str, str]] = {}

    def __init__(self, detail: str, **extra: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra


class NotFound(Problem):
    status = 404


class Conflict(Problem):
    status = 409


class Unavailable(Problem):
    """Something this service depends on is away; the same request may succeed later."""

    status = 503
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "2"}


def problem_response(
    status: int, detail: str, headers: Mapping[str, str] | None = None, **extra: object
) -> JSONResponse:
    body = {
        "type": extra.pop("type", "about:blank"),
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **extra,
    }
    return JSONResponse(
        body, status, headers=dict(headers or {}), media_type="application/problem+json"
    )


def _slug(problem: Problem) -> str:
    name = type(problem).__name__
    return "".join(f"-{c.lower()}" if c.isupper() else c for c in name).lstrip("-")


def answer_to(problem: Problem) -> JSONResponse:
    kind = f"urn:waybill:problem:{_slug(problem)}"
    return problem_response(
        problem.status, problem.detail, problem.headers, type=kind, **problem.extra
    )


async def _problem(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)  # noqa: S101  # registered for this type only
    return answer_to(error)


def _violations(errors: Sequence[Any]) -> list[dict[str, str]]:
    return [
        {
            "field": ".".join(str(part) for part in error["loc"][1:]) or str(error["loc"][0]),
            "in": str(error["loc"][0]),
            "rule": error["type"],
            "detail": error["msg"],
        }
        for error in errors
    ]


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for this type only
    errors = error.errors()
    if any(e["type"] == "json_invalid" for e in errors):
        return problem_response(
            400, "The request body is not valid JSON.", errors=_violations(errors)
        )
    fields = ", ".join(violation["field"] for violation in _violations(errors))
    return problem_response(422, f"Not valid: {fields}.", errors=_violations(errors))


async def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for this type only
    return problem_response(error.status_code, str(error.detail), error.headers)


async def _failed_io(request: Request, error: Exception) -> JSONResponse:
    if is_unstorable_text(error):
        return problem_response(422, "A text has a character that cannot be stored, such as NUL.")
    if not is_transient(error):
        return await _unexpected(request, error)
    log.warning("dependency_unavailable", error=repr(error))
    return problem_response(503, "Try again in a moment.", Unavailable.headers)


async def _unexpected(_: Request, error: Exception) -> JSONResponse:
    log.error("unexpected_error", exc_info=error)
    return problem_response(500, "Something broke on our side; it has been logged.")


def install_problem_handlers(app: FastAPI) -> None:
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    for error in (DBAPIError, PoolTimeout, OSError, TimeoutError):
        app.add_exception_handler(error, _failed_io)
    app.add_exception_handler(Exception, _unexpected)
