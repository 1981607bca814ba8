"""What `verify` reads, and what it takes for unreadable."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from chassis.settings import Settings
from chassis.tables import LoggedEvent, new_id
from orders.domain import Order
from orders.settings import OrdersSettings
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from waybill import credentials, ports
from waybill.project import Project
from waybill.verify import sources
from waybill.verify.sources import Told

NOW = datetime.now(UTC)


@pytest.fixture
def service() -> str:
    return "orders"


async def place(db: AsyncConnection, days_ago: float, *, announced: bool) -> str:
    then = NOW - timedelta(days=days_ago)
    address = {"line1": "1", "city": "Oslo", "postal_code": "0150", "country": "NO"}
    order: dict[str, Any] = {
        "id": new_id(),
        "user_id": new_id(),
        "status": "delivered",
        "version": 4,
        "total": 1,
        "currency": "EUR",
        "shipping_address": address,
        "payment_method": "pm_card_ok",
        "refunded": 0,
        "prompts": 0,
        "created_at": then,
        "updated_at": then,
    }
    await db.execute(insert(Order).values(order))
    if announced:
        event: dict[str, Any] = {"id": new_id(), "topic": "order.created", "payload": {}}
        await db.execute(insert(LoggedEvent).values(key=str(order["id"]), **event))
    return str(order["id"])


async def test_orders_older_than_the_log_need_no_announcement(db: AsyncConnection) -> None:
    await place(db, 30.1, announced=False)
    await place(db, 29, announced=True)
    lost = await place(db, 29, announced=False)
    found = await db.exec_driver_sql(sources.UNANNOUNCED, (timedelta(days=30),))
    assert [row[0] for row in found] == [lost]


async def test_a_queue_that_tells_nothing_is_unchecked(
    checkout: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def queues(_: web.Request) -> web.Response:
        return web.json_response([{"name": "up", "messages": 0}, {"name": "down"}])

    broker = web.Application()
    broker.router.add_get("/api/queues", queues)
    runner = web.AppRunner(broker)
    await runner.setup()
    await web.TCPSite(runner, ports.HOST, 0).start()
    monkeypatch.setattr(ports, "RABBITMQ_MANAGEMENT", runner.addresses[0][1])
    credentials.ensure(checkout)
    snapshot = await sources.take_snapshot(checkout)
    await runner.cleanup()
    assert snapshot.missing["queued"] == "cannot be read (nothing is known of down)"


def test_services_and_verify_are_told_the_same() -> None:
    fields = Settings.model_fields | OrdersSettings.model_fields
    for name, field in Told.model_fields.items():
        assert field.default == fields[name].default
