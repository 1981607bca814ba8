"""HTTP in and out: checks a request at the door, passes it on, and passes the answer back."""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus

import structlog
from chassis.identity import Caller, NotAuthenticated, authenticate
from chassis.problems import Problem, Unavailable, problem_response
from chassis.sidecar import Reply, SidecarUnavailable, sidecar
from chassis.tables import new_id
from fastapi import APIRouter, Request, Response

from gateway.addresses import address_of
from gateway.rate_limits import Allowance, rate_limits
from gateway.routing import METHODS, PREFIX, Access, Target, resolve
from gateway.settings import gateway_settings

log = structlog.get_logger(__name__)

# Nothing else goes in or out: neither hop-by-hop headers, nor what only a sidecar may say
# (dapr-*), nor what a proxy is believed (x-forwarded-*).
_FORWARDED = frozenset(
    {
        b"accept",
        b"authorization",
        b"idempotency-key",
        b"if-match",
        b"if-none-match",
        b"stripe-signature",
        b"user-agent",
    }
)
_RETURNED = (
    "cache-control",
    "content-type",
    "etag",
    "idempotent-replayed",
    "location",
    "retry-after",
    "www-authenticate",
)
_LONGEST_HEADER = 4096
_LONGEST_QUERY = 4096
_SLOWEST_BODY_SECONDS = 10  # it keeps a place of those there are for requests
_PROBLEM = "application/problem+json"


class UnreadableHeader(Problem):
    status = 400


class UriTooLong(Problem):
    status = 414


class RequestTooSlow(Problem):
    status = 408


class HeaderTooLarge(Problem):
    status = 431


class ServiceUnavailable(Unavailable):
    pass


class BadGateway(Unavailable):
    """What answered was not the service."""

    status = 502


class GatewayTimeout(Unavailable):
    status = 504


router = APIRouter(include_in_schema=False)


async def forward(request: Request) -> Response:
    target = resolve(request.method, request.scope["raw_path"].decode("latin-1"))
    allowance = await _admit(request, target)
    if allowance and not allowance.granted:
        return _too_many_requests(allowance)
    reply = await _invoke(request, target)
    return _answer(reply, allowance.headers if allowance else {})


router.add_route(PREFIX + "/{path:path}", forward, methods=METHODS)


async def _admit(request: Request, target: Target) -> Allowance | None:
    """Counts the request for its caller, or for its address if nobody or somebody false calls."""
    try:
        caller = await _identify(request, target)
    except NotAuthenticated:
        allowance = rate_limits.take(target.limit, _address(request))
        if allowance and not allowance.granted:
            return allowance
        raise
    return rate_limits.take(target.limit, str(caller.user_id) if caller else _address(request))


async def _identify(request: Request, target: Target) -> Caller | None:
    if target.access is Access.TOKENLESS:
        return None
    if target.access is Access.OPEN and "authorization" not in request.headers:
        return None
    return await authenticate(request)


def _address(request: Request) -> str:
    peer = request.client.host if request.client else ""
    forwarded_for = ",".join(request.headers.getlist("x-forwarded-for"))
    return address_of(peer, forwarded_for, gateway_settings().trusted_proxies)


def _too_many_requests(allowance: Allowance) -> Response:
    return problem_response(
        429,
        f"At most {allowance.limit} here; try again in {allowance.reset} s.",
        {**allowance.headers, "Retry-After": str(allowance.reset)},
        type="urn:waybill:problem:too-many-requests",
    )


async def _invoke(request: Request, target: Target) -> Reply:
    try:
        reply = await sidecar.invoke(
            target.app_id,
            target.path + _query(request),
            method="GET" if request.method == "HEAD" else request.method,
            body=await _body(request) or None,
            content_type=_checked(request.headers.get("content-type") or "application/json"),
            headers=_forwarded(request, target),
        )
    except SidecarUnavailable as error:
        late = isinstance(error.__cause__, TimeoutError)
        raise _absence(target.app_id, late=late) from error
    if reply.status >= HTTPStatus.BAD_REQUEST and not _is_a_services_own(reply):
        raise _mesh_trouble(target.app_id, reply)
    return reply


async def _body(request: Request) -> bytes:
    try:
        async with asyncio.timeout(_SLOWEST_BODY_SECONDS):
            return await request.body()
    except TimeoutError as error:
        raise RequestTooSlow("The body did not arrive in time.") from error


def _query(request: Request) -> str:
    query = request.scope["query_string"].decode("latin-1")
    if len(query) > _LONGEST_QUERY:
        raise UriTooLong(f"A query may have {_LONGEST_QUERY} characters.")
    return f"?{query}" if query else ""


def _forwarded(request: Request, target: Target) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in request.scope["headers"]:
        if name in _FORWARDED:
            headers.setdefault(name.decode(), _checked(value.decode("latin-1")))
    if target.access is Access.TOKENLESS:
        headers.pop("authorization", None)
    if request.method == "POST":
        # The sidecar may send a request again whose answer it did not get.
        headers.setdefault("idempotency-key", str(new_id()))
    headers["x-correlation-id"] = structlog.contextvars.get_contextvars()["correlation_id"]
    return headers


def _checked(value: str) -> str:
    """A header that the whole way to the service can carry."""
    if len(value) > _LONGEST_HEADER:
        raise HeaderTooLarge(f"A header may have {_LONGEST_HEADER} characters.")
    if not value.isascii() or not value.isprintable():
        raise UnreadableHeader("Headers are visible ASCII characters.")
    return value


def _is_a_services_own(reply: Reply) -> bool:
    """All errors of services are Problem Details; sidecars and servers have other formats."""
    return reply.headers.get("content-type", "").startswith(_PROBLEM)


def _mesh_trouble(app_id: str, reply: Reply) -> Problem:
    log.warning("mesh_trouble", callee=app_id, status=reply.status, answer=reply.body[:300])
    if reply.status in {ServiceUnavailable.status, GatewayTimeout.status}:
        return _absence(app_id, late=reply.status == GatewayTimeout.status)
    return BadGateway(f"{app_id} could not be asked.")


def _absence(app_id: str, *, late: bool) -> Problem:
    if late:
        return GatewayTimeout(f"{app_id} did not answer in time.")
    return ServiceUnavailable(f"{app_id} is not available.")


def _answer(reply: Reply, limits: Mapping[str, str]) -> Response:
    headers = {name: reply.headers[name] for name in _RETURNED if name in reply.headers}
    if headers.get("location", "").startswith("/"):
        headers["location"] = PREFIX + headers["location"]
    return Response(reply.body, reply.status, {**headers, **limits})
