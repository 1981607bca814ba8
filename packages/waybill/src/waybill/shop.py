"""The platform as its customers, its staff and its carriers use it: through the public API."""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import aiohttp

from waybill import ports
from waybill.credentials import load
from waybill.errors import PlatformError
from waybill.ledger import Ledger
from waybill.project import Project

ADDRESS = {"line1": "12 Harbour Street", "city": "Bergen", "postal_code": "5003", "country": "NO"}
_SECONDS = 30
_OURS = "urn:waybill:problem:"

Json = dict[str, Any]


class Refused(PlatformError):  # noqa: N818  # named for what happened
    """The platform answered with a problem; `status` and `problem` say which.

    `retry_after` are the seconds that it wants to be left alone.
    """

    def __init__(self, what: str, status: int, problem: Json, retry_after: float = 0) -> None:
        super().__init__(f"{what}: {status} {problem.get('detail', problem)}")
        self.status = status
        self.problem = problem
        self.retry_after = retry_after

    @property
    def name(self) -> str:
        """Its status, and the last word of the problem's type if it is one of our own."""
        kind = str(self.problem.get("type", ""))
        is_ours = kind.startswith(_OURS)
        return f"{self.status} {kind.removeprefix(_OURS)}" if is_ours else str(self.status)


@dataclass(frozen=True)
class Person:
    """Somebody who is logged in."""

    email: str
    token: str

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


class Shop:
    def __init__(self, http: aiohttp.ClientSession, project: Project) -> None:
        self._http = http
        self._project = project
        self._ledger = Ledger(project)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        person: Person | None = None,
        body: Any = None,
        key: str | None = None,
    ) -> Any:
        """The JSON of a 2xx answer; raises `Refused` for any other."""
        headers = dict(person.headers) if person else {}
        if method == "POST":
            headers["Idempotency-Key"] = key or str(uuid4())
        url = f"/api/v1/{path}"
        async with self._http.request(method, url, json=body, headers=headers) as reply:
            if not reply.ok:
                raise await _refusal(reply)
            return await reply.json(content_type=None)

    async def log_in(self, email: str, password: str) -> Person:
        body = {"email": email, "password": password}
        tokens = await self.ask("POST", "users/login", body=body)
        return Person(email, tokens["access_token"])

    async def register(self, name: str) -> Person:
        """A new customer, logged in."""
        email = f"{name.lower().replace(' ', '.')}.{uuid4().hex[:8]}@example.com"
        password = uuid4().hex
        body = {"email": email, "password": password, "name": name}
        await self.ask("POST", "users/register", body=body)
        return await self.log_in(email, password)

    async def staff(self, role: str) -> Person:
        """One of the accounts that came with the platform: admin, staff or carrier."""
        email = f"{role}@waybill.example"
        return await self.log_in(email, load(self._project).staff[email])

    async def order(
        self,
        customer: Person,
        items: Sequence[Json],
        payment_method: str = "pm_card_ok",
        key: str | None = None,
    ) -> Json:
        """Places an order and enters it in the ledger, whatever the answer."""
        body = {
            "items": items,
            "shipping_address": ADDRESS,
            "payment_method": payment_method,
        }
        key = key or str(uuid4())
        try:
            order = await self.ask("POST", "orders", person=customer, body=body, key=key)
        except Refused as refusal:
            self._ledger.note(key, refusal.status, None)
            raise
        except (aiohttp.ClientError, TimeoutError):
            self._ledger.note(key, None, None)
            raise
        self._ledger.note(key, 201, order["id"])
        return order

    async def read_order(self, person: Person, order_id: str) -> Json:
        return await self.ask("GET", f"orders/{order_id}", person=person)

    async def scan(self, carrier: Person, shipment_id: str, status: str, location: str) -> None:
        body = {
            "status": status,
            "location": location,
            "description": status.replace("_", " ").capitalize(),
        }
        await self.ask("POST", f"shipments/{shipment_id}/events", person=carrier, body=body)

    async def mails_to(self, email: str) -> Sequence[Json]:
        """What the mail sink got for this address, oldest first."""
        url = f"http://{ports.HOST}:{ports.MAIL_HTTP}/api/messages"
        async with self._http.get(url, params={"to": email, "limit": "100"}) as reply:
            return list(reversed((await reply.json())["items"]))


async def _refusal(reply: aiohttp.ClientResponse) -> Refused:
    """The server in front of the gateway's own code answers in plain text when it is overrun."""
    text = await reply.text()
    try:
        problem = json.loads(text)
    except ValueError:
        problem = {"detail": text}
    retry_after = reply.headers.get("Retry-After", "")
    seconds = float(retry_after) if retry_after.isdecimal() else 0
    return Refused(f"{reply.method} {reply.url.path}", reply.status, problem, seconds)


@asynccontextmanager
async def open_shop(project: Project) -> AsyncGenerator[Shop]:
    timeout = aiohttp.ClientTimeout(total=_SECONDS)
    base = f"http://{ports.HOST}:{project.app('gateway').port}"
    unbounded = aiohttp.TCPConnector(limit=0)  # a request must not wait in line in here
    async with aiohttp.ClientSession(base, timeout=timeout, connector=unbounded) as http:
        yield Shop(http, project)
