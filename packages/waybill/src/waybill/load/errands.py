"""Does what a customer came for, through the public API."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from uuid import uuid4

from waybill.load.client import Client, first_error
from waybill.load.mix import Card, Errand, Page, Purchase, Visit
from waybill.shop import Json, Person, Shop

_TOKEN_SECONDS = 600  # they live for 900
_LOOKS = 10
_LOOK_SECONDS = 1.0
_AT_ONCE = 8
_PAGE_SIZE = 10


@dataclass
class Customer:
    """An account, with the latest login and the parcels its holder knows of."""

    email: str
    password: str
    person: Person | None = None
    logged_in_at: float = 0
    parcels: deque[str] = field(default_factory=lambda: deque[str](maxlen=_PAGE_SIZE))


class Errands:
    """`accepted` are the orders that were answered 201, with the time (epoch) of the answer."""

    def __init__(self, shop: Shop, client: Client) -> None:
        self._shop = shop
        self._client = client
        self._customers: list[Customer] = []
        self.accepted: dict[str, float] = {}

    async def register_customers(self, count: int) -> None:
        places = asyncio.Semaphore(_AT_ONCE)

        async def register() -> Customer:
            async with places:
                return await self._register()

        with first_error():
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(register()) for _ in range(count)]
        self._customers = [task.result() for task in tasks]

    async def run(self, errand: Errand) -> None:
        """Raises `Refused`, `RateLimited` or `GaveUp` where the customer cannot go on."""
        match errand:
            case Purchase():
                await self._buy(errand)
            case Visit():
                await self._look(errand)

    async def _buy(self, purchase: Purchase) -> None:
        place = purchase.customer
        customer = await self._register() if place is None else self._customers[place]
        person = await self._logged_in(customer)
        order_id = await self._order(person, purchase)
        if purchase.cancels_after is not None:
            await asyncio.sleep(purchase.cancels_after)
            await self._ask("cancel", "DELETE", f"orders/{order_id}", person)
        elif purchase.card is Card.REQUIRES_ACTION and purchase.approves:
            await self._approve(person, order_id)

    async def _order(self, person: Person, purchase: Purchase) -> str:
        key = str(uuid4())
        items: list[Json] = [{"sku": sku, "quantity": n} for sku, n in purchase.lines]
        order = await self._client.insist(
            "order", lambda: self._shop.order(person, items, purchase.card, key)
        )
        self.accepted[order["id"]] = time.time()
        return order["id"]

    async def _approve(self, person: Person, order_id: str) -> None:
        """Looks now and then whether the bank asks; a customer who is kept waiting leaves."""
        for _ in range(_LOOKS):
            await asyncio.sleep(_LOOK_SECONDS)
            path = f"payments?order_id={order_id}"
            for payment in (await self._ask("payment", "GET", path, person))["items"]:
                if payment["status"] == "requires_action":
                    await self._ask("confirm", "POST", f"payments/{payment['id']}/confirm", person)
                    return

    async def _look(self, visit: Visit) -> None:
        customer = self._customers[visit.customer]
        match visit.page:
            case Page.PRODUCTS:
                await self._ask("products", "GET", f"products?page_size={_PAGE_SIZE}")
            case Page.PRODUCT:
                await self._ask("product", "GET", f"products/{visit.sku}")
            case Page.TRACKING if customer.parcels:
                await self._ask("tracking", "GET", f"tracking/{customer.parcels[0]}")
            case Page.ORDERS | Page.TRACKING:
                person = await self._logged_in(customer)
                page = await self._ask("orders", "GET", f"orders?page_size={_PAGE_SIZE}", person)
                customer.parcels.extend(filter(None, (o["tracking_number"] for o in page["items"])))

    async def _register(self) -> Customer:
        name = uuid4().hex
        customer = Customer(f"load.{name[:12]}@example.com", name)
        body = {"email": customer.email, "password": customer.password, "name": "Load"}
        await self._ask("register", "POST", "users/register", body=body)
        await self._logged_in(customer)
        return customer

    async def _logged_in(self, customer: Customer) -> Person:
        if customer.person is None or time.monotonic() > customer.logged_in_at + _TOKEN_SECONDS:
            customer.logged_in_at = time.monotonic()
            customer.person = await self._client.insist(
                "log in", lambda: self._shop.log_in(customer.email, customer.password)
            )
        return customer.person

    async def _ask(
        self,
        kind: str,
        method: str,
        path: str,
        person: Person | None = None,
        body: Json | None = None,
    ) -> Json:
        key = str(uuid4())
        return await self._client.insist(
            kind, lambda: self._shop.ask(method, path, person=person, body=body, key=key)
        )
