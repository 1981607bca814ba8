"""One OpenAPI document for all services, made from theirs."""

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any, cast

import structlog
from chassis.problems import Unavailable
from chassis.sidecar import sidecar
from fastapi import APIRouter, Response

from gateway.routing import AREAS, PREFIX, Access, access_to

log = structlog.get_logger(__name__)

Document = dict[str, Any]

_FETCH_SECONDS = 3
_KEPT_SECONDS = 60
_KEPT_INCOMPLETE_SECONDS = 5
_METHODS = ("get", "post", "put", "delete")
_REFERENCE = "#/components/schemas/"
_INTRODUCTION = "Orders from checkout to doorstep. Errors are Problem Details (RFC 9457)."

_PROBLEM_RESPONSE: Document = {
    "description": "What went wrong, and in `errors` which field broke which rule.",
    "content": {"application/problem+json": {"schema": {"$ref": _REFERENCE + "Problem"}}},
}
_PROBLEM_SCHEMA: Document = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    name: {"type": "string"} for name in ("field", "in", "rule", "detail")
                },
            },
        },
    },
}
_FASTAPIS_OWN_ERRORS = ("HTTPValidationError", "ValidationError")


def merge(documents: Mapping[str, Document | None]) -> Document:
    """One document from those by app id; None stands for a service that is away."""
    here = {app_id: document for app_id, document in documents.items() if document}
    away = sorted(documents.keys() - here.keys())
    missing = f"\n\nNot available at the moment: {', '.join(away)}." if away else ""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Waybill", "version": "1", "description": _INTRODUCTION + missing},
        "paths": {path: item for app_id in here for path, item in _paths(app_id, here[app_id])},
        "components": {
            "schemas": {
                "Problem": _PROBLEM_SCHEMA,
                **{k: v for app_id in here for k, v in _schemas(app_id, here[app_id])},
            },
            "responses": {"Problem": _PROBLEM_RESPONSE},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            },
        },
    }


def _paths(app_id: str, document: Document) -> Iterator[tuple[str, Document]]:
    for path, item in document["paths"].items():
        name, _, rest = path.removeprefix("/").partition("/")
        if name in AREAS and AREAS[name].app_id == app_id:
            operations = {
                method: _operation(
                    app_id, item[method], access_to(method.upper(), name, "/" + rest)
                )
                for method in _METHODS
                if method in item
            }
            yield PREFIX + path, operations


def _operation(app_id: str, operation: Document, access: Access) -> Document:
    # FastAPI documents an error format of its own, which our services do not use.
    responses = {code: r for code, r in operation["responses"].items() if code != "422"}
    described = {
        **operation,
        "operationId": f"{app_id}_{operation['operationId']}",
        "responses": {**responses, "default": {"$ref": "#/components/responses/Problem"}},
        "security": _SECURITY[access],
    }
    return _renamed(described, app_id)


_SECURITY: Mapping[Access, list[dict[str, list[str]]]] = {
    Access.PROTECTED: [{"bearer": []}],
    Access.OPEN: [{}, {"bearer": []}],
    Access.TOKENLESS: [],
}


def _schemas(app_id: str, document: Document) -> Iterator[tuple[str, Document]]:
    schemas = document.get("components", {}).get("schemas", {})
    for name, schema in schemas.items():
        if name not in _FASTAPIS_OWN_ERRORS:
            yield f"{app_id}.{name}", _renamed(schema, app_id)


def _renamed(node: Any, app_id: str) -> Any:
    """The same with every reference to a schema prefixed by its service, as the schemas are."""
    if isinstance(node, dict):
        members = cast("dict[str, Any]", node)
        return {key: _renamed(value, app_id) for key, value in members.items()}
    if isinstance(node, list):
        return [_renamed(item, app_id) for item in cast("list[Any]", node)]
    if isinstance(node, str) and node.startswith(_REFERENCE):
        return f"{_REFERENCE}{app_id}.{node.removeprefix(_REFERENCE)}"
    return node


class Description:
    """The merged document, kept for a minute, and only for moments while a service is away."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._text = b""
        self._fresh_until = float("-inf")

    async def text(self) -> bytes:
        async with self._lock:
            if time.monotonic() >= self._fresh_until:
                await self._refresh()
            return self._text

    async def _refresh(self) -> None:
        apps = sorted({area.app_id for area in AREAS.values()})
        documents = dict(zip(apps, await asyncio.gather(*map(_fetch, apps)), strict=True))
        self._text = json.dumps(merge(documents), ensure_ascii=False).encode()
        complete = None not in documents.values()
        kept = _KEPT_SECONDS if complete else _KEPT_INCOMPLETE_SECONDS
        self._fresh_until = time.monotonic() + kept


async def _fetch(app_id: str) -> Document | None:
    try:
        async with asyncio.timeout(_FETCH_SECONDS):
            reply = await sidecar.invoke(app_id, "openapi.json")
            return reply.json() if reply.ok else None
    except (Unavailable, TimeoutError, ValueError) as error:
        log.warning("service_not_described", service=app_id, error=repr(error))
        return None


description = Description()
router = APIRouter(include_in_schema=False)


@router.get(PREFIX + "/openapi.json")
async def get_openapi() -> Response:
    return Response(await description.text(), media_type="application/json")
