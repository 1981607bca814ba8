"""The demonstration: one order followed to the doorstep, twenty more at once, and the proof."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from waybill.commands.verify import settled_verdicts, verdict_table
from waybill.errors import PlatformError
from waybill.project import Project
from waybill.seed import DEMO_GOODS, SOLD_OUT, seed
from waybill.shop import Json, Person, Shop, open_shop
from waybill.waiting import Condition, until

CROWD = 20
ORDER_SECONDS = 30
MAIL_SECONDS = 30
VERIFY_SECONDS = 30
WAY = (
    ("picked_up", "Bergen"),
    ("in_transit", "Voss"),
    ("out_for_delivery", "Oslo"),
    ("delivered", "Oslo"),
)


class Story:
    """Tells what happens, with the time since the last beginning."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.begin()

    def begin(self) -> None:
        self._started = time.perf_counter()

    def chapter(self, title: str) -> None:
        self._console.print()
        self._console.rule(Text(title, style="bold"), align="left")
        self.begin()

    def tell(self, what: str) -> None:
        milliseconds = (time.perf_counter() - self._started) * 1000
        line = Text(f"{milliseconds:7.0f} ms  ", style="dim")
        self._console.print(line.append(Text(what, style="default")))

    def show(self, table: Table) -> None:
        self._console.print(table)


async def play(project: Project, console: Console) -> None:
    """Raises a PlatformError that says what did not happen, or which promise is broken."""
    story = Story(console)
    async with open_shop(project) as shop:
        story.chapter("The shop opens")
        await seed(project, shop, DEMO_GOODS)
        story.tell(f"{len(DEMO_GOODS)} products are listed and their stock is delivered")
        await _one_order(shop, story)
        await _a_crowd(shop, story)
    story.chapter("Does the platform keep its promises?")
    verdicts = await settled_verdicts(project, VERIFY_SECONDS)
    story.show(verdict_table(verdicts))
    if broken := [v.invariant.name for v in verdicts if not v.holds]:
        raise PlatformError(f"Broken: {', '.join(broken)}.", fix="the logs lie in .waybill/logs")


async def _one_order(shop: Shop, story: Story) -> None:
    story.chapter("One order, from checkout to doorstep")
    ada = await shop.register("Ada Lund")
    story.tell(f"{ada.email} registers and logs in")
    story.begin()
    items = [{"sku": "COMPASS-POCKET", "quantity": 1}, {"sku": "MUG-ENAMEL", "quantity": 2}]
    order = await shop.order(ada, items)
    story.tell(f"order {order['id']} is accepted: {_money(order)}, {order['status']}")
    order = await _until(shop, ada, order["id"], "tracking_number")
    _tell_history(order, story)
    story.tell(f"the parcel is ready: tracking number {order['tracking_number']}")
    await _carry(shop, order, story)
    await _until(shop, ada, order["id"], "status", "delivered")
    story.tell("the order is delivered")
    await _read_mail(shop, ada, story)


def _tell_history(order: Json, story: Story) -> None:
    path = " → ".join(entry["status"] for entry in order["history"])
    story.tell(f"stock is reserved, the card is charged, payment {order['payment_id']}: {path}")


async def _carry(shop: Shop, order: Json, story: Story) -> None:
    carrier = await shop.staff("carrier")
    found = await shop.ask("GET", f"shipments?order_id={order['id']}", person=carrier)
    for status, location in WAY:
        await shop.scan(carrier, found["items"][0]["id"], status, location)
        public = await shop.ask("GET", f"tracking/{order['tracking_number']}")
        story.tell(f"the carrier scans it in {location}; anyone may see: {public['status']}")


async def _read_mail(shop: Shop, person: Person, story: Story) -> None:
    async def delivered() -> bool:
        mails = await shop.mails_to(person.email)
        return any("deliver" in mail["subject"].lower() for mail in mails)

    await _wait(delivered, MAIL_SECONDS, f"The mail sink got no delivery mail for {person.email}.")
    story.tell("the mail sink got, for her:")
    table = Table.grid(padding=(0, 2))
    for mail in await shop.mails_to(person.email):
        table.add_row("           ", "✉", mail["subject"])
    story.show(table)


@dataclass(frozen=True)
class Placed:
    customer: Person
    order: Json
    milliseconds: float


async def _a_crowd(shop: Shop, story: Story) -> None:
    story.chapter(f"{CROWD} orders at once: one with a declined card, one for what is sold out")
    customers = await asyncio.gather(*(shop.register(f"Buyer {n}") for n in range(CROWD)))
    story.tell(f"{CROWD} customers have registered")
    story.begin()
    placed = await asyncio.gather(
        *(_place(shop, customer, number) for number, customer in enumerate(customers))
    )
    median = sorted(p.milliseconds for p in placed)[CROWD // 2]
    story.tell(f"all are accepted, answered in {median:.0f} ms at the median of {CROWD} at once")
    ended = await asyncio.gather(*(_decided(shop, p) for p in placed))
    story.tell("each has a tracking number, or is cancelled and undone")
    story.show(_crowd_table(ended))
    _expect_outcomes(ended)


async def _place(shop: Shop, customer: Person, number: int) -> Placed:
    goods = [item.sku for item in DEMO_GOODS if item.stock]
    sku = SOLD_OUT if number == CROWD - 1 else goods[number % len(goods)]
    card = "pm_card_declined" if number == CROWD - 2 else "pm_card_ok"
    started = time.perf_counter()
    order = await shop.order(customer, [{"sku": sku, "quantity": 1 + number % 2}], card)
    return Placed(customer, order, (time.perf_counter() - started) * 1000)


async def _decided(shop: Shop, placed: Placed) -> Json:
    async def decided() -> bool:
        order = await shop.read_order(placed.customer, placed.order["id"])
        return bool(order["tracking_number"]) or order["status"] == "cancelled"

    order_id = placed.order["id"]
    await _wait(decided, ORDER_SECONDS, f"Order {order_id} was not decided in time.")
    return await shop.read_order(placed.customer, order_id)


def _crowd_table(orders: Sequence[Json]) -> Table:
    table = Table(header_style="bold")
    for heading in ("Order", "Item", "Total", "Became", "Tracking number or reason"):
        table.add_column(heading)
    for order in orders:
        good = order["status"] != "cancelled"
        outcome = order["tracking_number"] if good else order["cancellation_reason"]
        table.add_row(
            f"…{order['id'][-8:]}",
            order["items"][0]["name"],
            _money(order),
            Text(order["status"], style="green" if good else "yellow"),
            str(outcome).replace("_", " "),
        )
    return table


def _expect_outcomes(orders: Sequence[Json]) -> None:
    reasons = sorted(str(o["cancellation_reason"]) for o in orders if o["status"] == "cancelled")
    if reasons != ["out_of_stock", "payment_failed"]:
        raise PlatformError(f"One declined card, one sold out; but cancelled were: {reasons}.")


async def _until(
    shop: Shop, person: Person, order_id: str, name: str, value: str | None = None
) -> Json:
    async def reached() -> bool:
        found = (await shop.read_order(person, order_id))[name]
        return found == value if value else bool(found)

    await _wait(reached, ORDER_SECONDS, f"Order {order_id} did not get its {name} in time.")
    return await shop.read_order(person, order_id)


def _money(order: Json) -> str:
    return f"{order['total'] / 100:,.2f} {order['currency']}"


async def _wait(condition: Condition, seconds: float, failure: str) -> None:
    try:
        await until(condition, seconds=seconds, every=0.1)
    except TimeoutError:
        raise PlatformError(failure, fix="the logs lie in .waybill/logs") from None
