"""An order's life over the real sidecars, and every way out of it with its compensation."""

from typing import Any

import pytest
from waybill.project import Project
from waybill.seed import SOLD_OUT
from waybill.shop import Json, Person, Refused, Shop
from waybill.verify.snapshot import Snapshot
from waybill.verify.sources import take_snapshot
from waybill.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MUG = [{"sku": "MUG-ENAMEL", "quantity": 2}]


async def becomes(shop: Shop, person: Person, order: Json, **expected: Any) -> Json:
    """The order once its fields are as expected, within half a minute."""
    seen: Json = {}

    async def reached() -> bool:
        seen.update(await shop.read_order(person, order["id"]))
        return all(seen[name] == value for name, value in expected.items())

    try:
        await until(reached, seconds=30)
    except TimeoutError:
        pytest.fail(f"wanted {expected}, got {seen}")
    return seen


async def is_tracked(shop: Shop, person: Person, order: Json) -> Json:
    seen: Json = {}

    async def reached() -> bool:
        seen.update(await shop.read_order(person, order["id"]))
        return bool(seen["tracking_number"])

    await until(reached, seconds=30)
    return seen


async def shipment_of(shop: Shop, carrier: Person, order: Json) -> str:
    found = await shop.ask("GET", f"shipments?order_id={order['id']}", person=carrier)
    return found["items"][0]["id"]


async def eventually_judged(here: Project, order: Json, **expected: Any) -> None:
    """Waits until the other services' own records of the order are as expected."""

    def of(snapshot: Snapshot) -> dict[str, Any]:
        charges = [c for c in snapshot.charges if c.order_id == order["id"]]
        reservations = [r for r in snapshot.reservations if r.order_id == order["id"]]
        parcels = [s for s in snapshot.shipments if s.order_id == order["id"]]
        return {
            "charged": sum(charge.amount for charge in charges),
            "refunded": sum(charge.refunded for charge in charges),
            "stock": reservations[0].status if reservations else None,
            "parcel": parcels[0].status if parcels else None,
        }

    seen: dict[str, Any] = {}

    async def reached() -> bool:
        seen.update(of(await take_snapshot(here)))
        return expected.items() <= seen.items()

    try:
        await until(reached, seconds=30)
    except TimeoutError:
        pytest.fail(f"wanted {expected}, got {seen}")


async def test_an_order_reaches_the_doorstep(platform: Project, shop: Shop) -> None:
    customer, carrier = await shop.register("Ida Berg"), await shop.staff("carrier")
    order = await shop.order(customer, MUG)
    assert (order["status"], order["total"]) == ("pending", 2_500)

    tracked = await is_tracked(shop, customer, order)
    assert tracked["status"] == "processing"
    assert tracked["payment_id"]
    shipment = await shipment_of(shop, carrier, order)
    for status in ("picked_up", "in_transit", "out_for_delivery", "delivered"):
        await shop.scan(carrier, shipment, status, "Oslo")

    delivered = await becomes(shop, customer, order, status="delivered")
    steps = [entry["status"] for entry in delivered["history"]]
    assert steps[:2] == ["pending", "processing"]
    assert steps[-1] == "delivered"
    public = await shop.ask("GET", f"tracking/{tracked['tracking_number']}")
    assert public["status"] == "delivered"
    await eventually_judged(
        platform, order, charged=2_500, refunded=0, stock="dispatched", parcel="delivered"
    )

    async def all_mailed() -> bool:
        return len(await shop.mails_to(customer.email)) >= 6

    await until(all_mailed, seconds=30)


async def test_an_order_that_is_out_of_stock_costs_nothing(platform: Project, shop: Shop) -> None:
    customer = await shop.register("Nils Vik")
    order = await shop.order(customer, [*MUG, {"sku": SOLD_OUT, "quantity": 1}])
    await becomes(shop, customer, order, status="cancelled", cancellation_reason="out_of_stock")
    await eventually_judged(platform, order, charged=0, stock="rejected", parcel="voided")


async def test_a_declined_card_gives_the_stock_back(platform: Project, shop: Shop) -> None:
    customer = await shop.register("Mona Dahl")
    order = await shop.order(customer, MUG, "pm_card_declined")
    await becomes(shop, customer, order, status="cancelled", cancellation_reason="payment_failed")
    await eventually_judged(platform, order, charged=0, stock="released", parcel="voided")


async def test_a_cancellation_before_shipping_undoes_everything(
    platform: Project, shop: Shop
) -> None:
    customer = await shop.register("Per Lie")
    order = await shop.order(customer, MUG)
    await is_tracked(shop, customer, order)
    answer = await shop.ask("DELETE", f"orders/{order['id']}", person=customer)
    assert answer["status"] == "cancelling"

    await becomes(shop, customer, order, status="cancelled", refunded=2_500)
    await eventually_judged(
        platform, order, charged=2_500, refunded=2_500, stock="released", parcel="voided"
    )


async def test_a_cancellation_at_once_leaves_nothing_behind(platform: Project, shop: Shop) -> None:
    customer = await shop.register("Siv Moe")
    order = await shop.order(customer, MUG)
    await shop.ask("DELETE", f"orders/{order['id']}", person=customer)

    ended = await becomes(shop, customer, order, status="cancelled")

    async def nothing_is_kept() -> bool:
        snapshot = await take_snapshot(platform)
        kept = [c for c in snapshot.charges if c.order_id == ended["id"] and c.amount > c.refunded]
        held = [r for r in snapshot.reservations if r.order_id == ended["id"]]
        return not kept and bool(held) and held[0].status not in {"reserved", "dispatched"}

    await until(nothing_is_kept, seconds=30)


async def test_a_parcel_on_its_way_cannot_be_cancelled(shop: Shop) -> None:
    customer, carrier = await shop.register("Tor Aas"), await shop.staff("carrier")
    order = await shop.order(customer, MUG)
    await is_tracked(shop, customer, order)
    await shop.scan(carrier, await shipment_of(shop, carrier, order), "picked_up", "Bergen")
    await becomes(shop, customer, order, status="shipped")

    with pytest.raises(Refused) as refusal:
        await shop.ask("DELETE", f"orders/{order['id']}", person=customer)
    assert refusal.value.status == 409


async def test_a_customer_approves_a_payment_that_asks_for_it(
    platform: Project, shop: Shop
) -> None:
    customer = await shop.register("Eva Holm")
    order = await shop.order(customer, MUG, "pm_card_requires_action")
    found: list[Json] = []

    async def asked() -> bool:
        page = await shop.ask("GET", f"payments?order_id={order['id']}", person=customer)
        found[:] = [p for p in page["items"] if p["status"] == "requires_action"]
        return bool(found)

    await until(asked, seconds=30)
    assert (await shop.read_order(customer, order["id"]))["status"] == "pending"
    await shop.ask("POST", f"payments/{found[0]['id']}/confirm", person=customer)
    await is_tracked(shop, customer, order)
    await eventually_judged(platform, order, charged=2_500, refunded=0, stock="reserved")


async def test_a_charge_whose_answer_is_lost_is_made_once(platform: Project, shop: Shop) -> None:
    customer = await shop.register("Kai Rud")
    order = await shop.order(customer, MUG, "pm_card_timeout")

    async def tracked() -> bool:
        return bool((await shop.read_order(customer, order["id"]))["tracking_number"])

    await until(tracked, seconds=90)
    await eventually_judged(platform, order, charged=2_500, refunded=0, stock="reserved")
