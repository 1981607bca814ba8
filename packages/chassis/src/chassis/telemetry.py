"""Logs, traces and metrics of a process, and the middleware that feeds them."""

import logging
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import structlog
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind
from prometheus_client import Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.settings import settings

REQUESTS = Counter("http_requests_total", "Requests answered.", ["method", "route", "status"])
DURATION = Histogram("http_request_duration_seconds", "Time to the answer.", ["method", "route"])

_LONGEST_ID = 64
_QUIET = frozenset({"/live", "/health", "/ready", "/metrics"})
tracer = trace.get_tracer("waybill")


def set_up_telemetry(service: str) -> None:
    _set_up_logs(service)
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    if settings().zipkin_endpoint:
        provider.add_span_processor(_zipkin_processor(settings().zipkin_endpoint))
    trace.set_tracer_provider(provider)


def _zipkin_processor(endpoint: str) -> Any:
    # Imported here, for a process without a collector should not pay for its exporter.
    from opentelemetry.exporter.zipkin.json import ZipkinExporter  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    return BatchSpanProcessor(ZipkinExporter(endpoint=endpoint))


def _set_up_logs(service: str) -> None:
    level = logging.getLevelNamesMapping()[settings().log_level]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            partial(_add_service, service),
            _add_trace_id,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _add_service(service: str, _: Any, __: str, entry: Any) -> Any:
    return {"service": service, **entry}


def _add_trace_id(_: Any, __: str, entry: Any) -> Any:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        entry["trace_id"] = trace.format_trace_id(context.trace_id)
    return entry


def current_trace_parent() -> str | None:
    """The W3C `traceparent` of the span under way."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get("traceparent")


def context_of(trace_parent: str | None) -> Context | None:
    return propagate.extract({"traceparent": trace_parent}) if trace_parent else None


@contextmanager
def _request_span(scope: Scope, headers: Headers) -> Generator[trace.Span]:
    name = f"{scope['method']} {scope['path']}"
    parent = propagate.extract(headers)
    with tracer.start_as_current_span(name, parent, SpanKind.SERVER) as span:
        yield span


class Telemetry:
    """Gives each request a span, a correlation id, log context and its place in the metrics."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _QUIET:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        with _request_span(scope, headers) as span:
            correlation_id = _correlation_id(headers, span)
            with structlog.contextvars.bound_contextvars(correlation_id=correlation_id):
                await self._observe(scope, receive, send, correlation_id)

    async def _observe(
        self, scope: Scope, receive: Receive, send: Send, correlation_id: str
    ) -> None:
        started = time.perf_counter()
        status = 500

        async def observed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-correlation-id"] = correlation_id
            await send(message)

        try:
            await self._app(scope, receive, observed_send)
        finally:
            _record(scope, status, time.perf_counter() - started)


def _correlation_id(headers: Headers, span: trace.Span) -> str:
    given = headers.get("x-correlation-id", "")
    if given.isascii() and given.isprintable() and 0 < len(given) <= _LONGEST_ID:
        return given
    return trace.format_trace_id(span.get_span_context().trace_id)


def _record(scope: Mapping[str, Any], status: int, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", "unmatched")
    trace.get_current_span().update_name(f"{scope['method']} {route}")
    trace.get_current_span().set_attribute("http.response.status_code", status)
    REQUESTS.labels(scope["method"], route, status).inc()
    DURATION.labels(scope["method"], route).observe(seconds)
