"""Records what the present release leaves in its databases, for the releases after it to migrate.

    waybill clean && .venv/bin/python tests/releases/record.py

Places orders of every outcome on a platform that has had none, and writes the rows of each
service's database to `tests/releases/<version>/<service>.jsonl.xz`, one JSON object a line. The
version is that of `pyproject.toml`. What could open anything is replaced: see `REPLACED`.
"""

import asyncio
import json
import lzma
import os
import tomllib
from collections.abc import AsyncIterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
from chassis.testing import as_entry
from rich.console import Console
from waybill import background, credentials, ports, project
from waybill.credentials import PlatformSecrets
from waybill.demo import WAY
from waybill.errors import PlatformError
from waybill.parts import postgres
from waybill.parts.postgres import Session
from waybill.project import Project
from waybill.seed import DEMO_GOODS, SOLD_OUT, seed
from waybill.shop import Json, Person, Shop, open_shop
from waybill.waiting import until

HERE = Path(__file__).parent
AT_ONCE = 6
CUSTOMERS = 24
SECONDS = 120

REPLACED = {
    ("users", "password_hash"): "'replaced'",
    ("refresh_tokens", "digest"): "sha256(digest)",
    ("refresh_tokens", "successor_seed"): "sha256(successor_seed)",
    ("payments", "client_secret"): "'replaced'",
    ("idempotency_keys", "answer"): """
        CASE WHEN answer ? 'client_secret'
        THEN jsonb_set(answer, '{client_secret}', '"replaced"') ELSE answer END
    """,
}
"""SQL that stands in for what the column holds."""


class Recorder:
    """Takes orders to every state in which a release may leave them."""

    def __init__(self, shop: Shop, carrier: Person, staff: Person) -> None:
        self._shop = shop
        self._carrier = carrier
        self._staff = staff
        self._goods = cycle([item.sku for item in DEMO_GOODS if item.stock >= 300])

    async def tracked(self, customer: Person) -> None:
        await self._tracked(customer, await self._order(customer))

    async def delivered(self, customer: Person, scans: int = len(WAY)) -> None:
        order = await self._order(customer)
        await self._tracked(customer, order)
        shipment = await self._only("shipments", order, self._carrier)
        for status, place in WAY[:scans]:
            await self._shop.scan(self._carrier, shipment["id"], status, place)
        await self._becomes(customer, order, "delivered" if scans == len(WAY) else "shipped")

    async def shipped(self, customer: Person) -> None:
        await self.delivered(customer, scans=1)

    async def sold_out(self, customer: Person) -> None:
        await self._becomes(customer, await self._order(customer, SOLD_OUT), "cancelled")

    async def declined(self, customer: Person) -> None:
        order = await self._order(customer, card="pm_card_declined")
        await self._becomes(customer, order, "cancelled")

    async def to_be_approved(self, customer: Person) -> Json:
        order = await self._order(customer, card="pm_card_requires_action")

        async def asked() -> bool:
            page = await self._shop.ask("GET", f"payments?order_id={order['id']}", person=customer)
            return [payment["status"] for payment in page["items"]] == ["requires_action"]

        await until(asked, seconds=SECONDS)
        return order

    async def approved(self, customer: Person) -> None:
        order = await self.to_be_approved(customer)
        payment = await self._only("payments", order, customer)
        await self._shop.ask("POST", f"payments/{payment['id']}/confirm", person=customer)
        await self._tracked(customer, order)

    async def answered_late(self, customer: Person) -> None:
        await self._tracked(customer, await self._order(customer, card="pm_card_timeout"))

    async def cancelled_at_once(self, customer: Person) -> None:
        order = await self._order(customer)
        await self._cancel(customer, order)

    async def cancelled_late(self, customer: Person) -> None:
        order = await self._order(customer)
        await self._tracked(customer, order)
        await self._cancel(customer, order)
        await self._becomes(customer, order, "cancelled")

    async def refunded_in_part(self, customer: Person) -> None:
        order = await self._order(customer)
        await self._tracked(customer, order)
        payment = await self._only("payments", order, self._staff)
        body = {"amount": 100, "reason": "scratched"}
        path = f"payments/{payment['id']}/refunds"
        await self._shop.ask("POST", path, person=self._staff, body=body)

    async def under_way(self, customer: Person) -> None:
        await self._order(customer)

    async def _order(
        self, customer: Person, sku: str | None = None, card: str = "pm_card_ok"
    ) -> Json:
        items = [{"sku": sku or next(self._goods), "quantity": 1}]
        return await self._shop.order(customer, items, card)

    async def _tracked(self, customer: Person, order: Json) -> None:
        async def tracked() -> bool:
            return bool((await self._shop.read_order(customer, order["id"]))["tracking_number"])

        await until(tracked, seconds=SECONDS)

    async def _becomes(self, customer: Person, order: Json, status: str) -> None:
        async def reached() -> bool:
            return (await self._shop.read_order(customer, order["id"]))["status"] == status

        await until(reached, seconds=SECONDS)

    async def _only(self, what: str, order: Json, person: Person) -> Json:
        page = await self._shop.ask("GET", f"{what}?order_id={order['id']}", person=person)
        [found] = page["items"]
        return found

    async def _cancel(self, customer: Person, order: Json) -> None:
        await self._shop.ask("DELETE", f"orders/{order['id']}", person=customer)


async def record(here: Project, console: Console, folder: Path) -> None:
    secrets = credentials.load(here)
    async with postgres.connection(secrets, "orders") as orders:
        if await orders.fetchval("SELECT count(*) FROM orders"):
            raise PlatformError("This platform has orders already.", fix="waybill clean")
    async with open_shop(here) as shop:
        await seed(here, shop, DEMO_GOODS)
        recorder = Recorder(shop, await shop.staff("carrier"), await shop.staff("staff"))
        customers = await _customers(shop)
        ends = {
            recorder.delivered: 35,
            recorder.shipped: 10,
            recorder.tracked: 20,
            recorder.sold_out: 8,
            recorder.declined: 8,
            recorder.to_be_approved: 5,
            recorder.approved: 5,
            recorder.answered_late: 2,
            recorder.cancelled_at_once: 7,
            recorder.cancelled_late: 7,
            recorder.refunded_in_part: 4,
        }
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(end: Any, customer: Person) -> None:
            async with slots:
                await end(customer)

        buyers = cycle(customers)
        async with asyncio.TaskGroup() as group:
            for end, count in ends.items():
                for customer in islice(buyers, count):
                    group.create_task(one(end, customer))
        await shop.ask("DELETE", "users/me", person=await shop.register("Gone Again"))
        await _leave_dead_letters(here, secrets)
        console.print(f"{sum(ends.values())} orders have come to their ends; recording.")
        async with asyncio.TaskGroup() as group:  # recorded while some are under way
            for customer in customers:
                group.create_task(one(recorder.under_way, customer))
            for service in here.databases:
                group.create_task(_write(secrets, service, folder))


async def _customers(shop: Shop) -> list[Person]:
    return [await shop.register(f"Customer {number}") for number in range(1, CUSTOMERS + 1)]


async def _leave_dead_letters(here: Project, secrets: PlatformSecrets) -> None:
    """One at each desk: an event of a type that nobody knows."""
    headers = {"dapr-api-token": secrets.app_api_token}
    async with aiohttp.ClientSession(headers=headers) as http:
        for service in here.databases:
            entry = as_entry("order.teleported", {"order_id": str(uuid4())})
            body = {"id": "1", "entries": [entry], "pubsubname": "pubsub", "topic": "events"}
            url = f"http://{ports.HOST}:{here.app(service).port}/events"
            async with http.post(url, json=body) as reply:
                if reply.status != 404:  # who takes no events has no desk
                    reply.raise_for_status()


async def _write(secrets: PlatformSecrets, service: str, folder: Path) -> None:
    lines: list[str] = []
    async with postgres.connection(secrets, service) as session:
        await session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        for table in await _names(session, "SELECT tablename FROM pg_tables", "schemaname"):
            lines += [
                json.dumps({"table": table, "row": row}) async for row in _rows(session, table)
            ]
    content = "".join(f"{line}\n" for line in lines).encode()
    (folder / f"{service}.jsonl.xz").write_bytes(lzma.compress(content, preset=9))


async def _rows(session: Session, table: str) -> AsyncIterator[Json]:
    columns = await _names(
        session,
        "SELECT column_name FROM information_schema.columns",
        f"is_generated = 'NEVER' AND table_name = '{table}' AND table_schema",
    )
    selected = ", ".join(f"{REPLACED.get((table, name), name)} AS {name}" for name in columns)
    query = f"SELECT to_jsonb(t)::text AS row FROM (SELECT {selected} FROM {table} ORDER BY 1) t"
    for found in await session.fetch(query):
        yield json.loads(found["row"])


async def _names(session: Session, select: str, where: str) -> list[str]:
    rows = await session.fetch(f"{select} WHERE {where} = 'public' ORDER BY 1")
    return [next(iter(row.values())) for row in rows]


async def main() -> None:
    os.environ["WAYBILL_RATE_LIMITS"] = "off"  # all customers come from one address here
    here, console = project.find(), Console()
    version = tomllib.loads((here.root / "pyproject.toml").read_text())["project"]["version"]
    folder = HERE / version
    folder.mkdir(exist_ok=True)
    async with background.platform(here, console):
        await record(here, console, folder)


if __name__ == "__main__":
    asyncio.run(main())
