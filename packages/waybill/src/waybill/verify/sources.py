"""Reads the snapshot: the services' databases, the broker, the provider's records, the ledger."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import aiohttp
import asyncpg
from pydantic_settings import BaseSettings

from waybill import ledger, ports
from waybill.credentials import PlatformSecrets, load
from waybill.parts import postgres
from waybill.project import Project
from waybill.verify.snapshot import (
    Charge,
    DeadLetterRow,
    OrderRow,
    PaymentRow,
    Projection,
    Reservation,
    ShipmentRow,
    Snapshot,
    Step,
    StockRow,
)


class Told(BaseSettings):
    """What the services are told by the same environment."""

    event_log_days: int = 30
    payment_deadline_seconds: int = 900

    @property
    def event_log(self) -> timedelta:
        """The age up to which events are kept."""
        return timedelta(days=self.event_log_days)

    @property
    def payment_deadline(self) -> timedelta:
        return timedelta(seconds=self.payment_deadline_seconds)


class NoStatistics(Exception):  # noqa: N818  # named for what it says
    """The broker names a queue and does not tell what is in it."""


_UNREADABLE = (OSError, asyncpg.PostgresError, aiohttp.ClientError, TimeoutError, NoStatistics)
_PAGE = 100
_SECONDS = 30

_ORDERS = """
    SELECT id::text, status, version, total, tracking_number, created_at, updated_at FROM orders
"""
_HISTORY = "SELECT order_id::text, version, status FROM order_history"
# One statement, and so of one moment. An hour before its time in the log ends, an order is let go:
# its event may be pruned while this looks.
UNANNOUNCED = """
    SELECT id::text FROM orders
    WHERE created_at > now() - $1::interval + interval '1 hour'
      AND NOT EXISTS (
          SELECT FROM event_log WHERE topic = 'order.created' AND key = orders.id::text
      )
"""
_PAYMENTS = "SELECT order_id::text, status, captured, refunded FROM payments"
_RESERVATIONS = "SELECT order_id::text, status FROM reservations"
_STOCK = """
    SELECT s.sku, s.warehouse, s.received, s.available, s.reserved, s.dispatched,
           coalesce(sum(l.quantity) FILTER (WHERE r.status = 'reserved'), 0)::bigint,
           coalesce(sum(l.quantity) FILTER (WHERE r.status = 'dispatched'), 0)::bigint
    FROM stock s
    LEFT JOIN reservation_lines l USING (sku, warehouse)
    LEFT JOIN reservations r USING (order_id)
    GROUP BY s.sku, s.warehouse
"""
_SHIPMENTS = "SELECT order_id::text, status, tracking_number FROM shipments"
_PROJECTIONS = "SELECT order_id::text, status, version FROM order_summaries"
_UNPUBLISHED = "SELECT count(*) FROM event_log WHERE published_at IS NULL"
_DEAD_LETTERS = """
    SELECT topic, reason FROM dead_letters WHERE resolution IS NULL ORDER BY received_at
"""


async def take_snapshot(project: Project) -> Snapshot:
    """A source that cannot be read leaves its reason in `missing`, and the others are read."""
    secrets = load(project)
    told = Told()
    reading = _Reading(project, secrets)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS)) as http:
        sources: Mapping[str, Callable[[], Awaitable[Any]]] = {
            "unpublished": reading.unpublished,
            "dead_letters": reading.dead_letters,
            "queued": lambda: _queued(http, secrets),
            "charges": lambda: _charges(http, secrets),
            "acknowledged": lambda: _acknowledged(project),
            "projections": lambda: reading.rows("dashboard", _PROJECTIONS, Projection),
            "shipments": lambda: reading.rows("tracking", _SHIPMENTS, ShipmentRow),
            "stock": lambda: reading.rows("inventory", _STOCK, StockRow),
            "reservations": lambda: reading.rows("inventory", _RESERVATIONS, Reservation),
            "payments": lambda: reading.rows("payments", _PAYMENTS, PaymentRow),
            "history": lambda: reading.rows("orders", _HISTORY, Step),
            "unannounced": lambda: reading.rows("orders", UNANNOUNCED, str, told.event_log),
            "orders": lambda: reading.rows("orders", _ORDERS, OrderRow),
        }
        found: dict[str, Any] = {}
        missing: dict[str, str] = {}
        for name, read in sources.items():
            try:
                found[name] = await read()
            except _UNREADABLE as error:
                missing[name] = f"cannot be read ({error})"
    now = datetime.now(UTC)
    return Snapshot(now, payment_deadline=told.payment_deadline, missing=missing, **found)


class _Reading:
    """The databases, read with the rights of the superuser, whom no service is."""

    def __init__(self, project: Project, secrets: PlatformSecrets) -> None:
        self._databases = project.databases
        self._secrets = secrets

    async def rows(
        self, database: str, query: str, row: Callable[..., Any], *args: object
    ) -> list[Any]:
        async with postgres.connection(self._secrets, database) as session:
            return [row(*record.values()) for record in await session.fetch(query, *args)]

    async def unpublished(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for service in self._databases:
            [counts[service]] = await self.rows(service, _UNPUBLISHED, int)
        return counts

    async def dead_letters(self) -> list[DeadLetterRow]:
        letters: list[DeadLetterRow] = []
        for service in self._databases:
            letters += await self.rows(service, _DEAD_LETTERS, partial(DeadLetterRow, service))
        return letters


async def _queued(http: aiohttp.ClientSession, secrets: PlatformSecrets) -> dict[str, int]:
    url = f"http://{ports.HOST}:{ports.RABBITMQ_MANAGEMENT}/api/queues"
    login = aiohttp.encode_basic_auth(secrets.rabbitmq_user, secrets.rabbitmq_password)
    headers = {"Authorization": login}
    async with http.get(url, params={"columns": "name,messages"}, headers=headers) as reply:
        reply.raise_for_status()
        queues = await reply.json()
    if silent := [queue["name"] for queue in queues if "messages" not in queue]:
        raise NoStatistics(f"nothing is known of {', '.join(silent)}")
    return {queue["name"]: queue["messages"] for queue in queues}


async def _charges(http: aiohttp.ClientSession, secrets: PlatformSecrets) -> list[Charge]:
    url = f"http://{ports.HOST}:{ports.PROVIDER}/v1/charges"
    headers = {"Authorization": f"Bearer {secrets.provider_key}"}
    charges: list[Charge] = []
    page: dict[str, Any] = {"has_more": True, "data": []}
    params = {"limit": str(_PAGE)}
    while page["has_more"]:
        async with http.get(url, params=params, headers=headers) as reply:
            reply.raise_for_status()
            page = await reply.json()
        charges += [_charge(found) for found in page["data"] if found["paid"]]
        if page["data"]:
            params["starting_after"] = page["data"][-1]["id"]
    return charges


def _charge(found: Mapping[str, Any]) -> Charge:
    order_id = found["metadata"].get("order_id", "?")
    return Charge(order_id, found["amount_captured"], found["amount_refunded"])


async def _acknowledged(project: Project) -> list[str]:
    entries = ledger.read(ledger.path_of(project))
    return [asked.order_id for asked in entries if asked.order_id]
