"""The invariants, each a judgement over one snapshot. Nothing here does any I/O."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from waybill.verify.snapshot import OrderRow, Snapshot

STEP_DEADLINE = timedelta(minutes=2)
# Deadlines are looked at every 15 seconds; one such look may be missed.
LATENESS = timedelta(minutes=1)

FULFILLED = frozenset({"processing", "shipped", "delivered"})

EDGES = {
    "pending": {"processing", "cancelled"},
    "processing": {"shipped", "delivered", "cancelling", "cancelled"},
    "cancelling": {"shipped", "delivered", "cancelled"},
    "shipped": {"delivered", "returned"},
    "delivered": {"returned"},
}


@dataclass(frozen=True)
class Invariant:
    """`sources` are the fields of the snapshot that it cannot be judged without."""

    name: str
    promise: str
    sources: tuple[str, ...]
    violations: Callable[[Snapshot], Iterator[str]]
    subjects: Callable[[Snapshot], int]


@dataclass(frozen=True)
class Verdict:
    """What was found; `unchecked` says why nothing could be."""

    invariant: Invariant
    checked: int
    violations: tuple[str, ...]
    unchecked: str | None = None

    @property
    def holds(self) -> bool:
        return not self.violations and self.unchecked is None


def judge(snapshot: Snapshot) -> list[Verdict]:
    return [_judge(invariant, snapshot) for invariant in INVARIANTS]


def _judge(invariant: Invariant, snapshot: Snapshot) -> Verdict:
    missing = [f"{s}: {snapshot.missing[s]}" for s in invariant.sources if s in snapshot.missing]
    if missing:
        return Verdict(invariant, 0, (), "; ".join(missing))
    found = tuple(invariant.violations(snapshot))
    return Verdict(invariant, invariant.subjects(snapshot), found)


def nothing_lost(snapshot: Snapshot) -> Iterator[str]:
    kept = {order.id for order in snapshot.orders}
    for order_id in snapshot.acknowledged:
        if order_id not in kept:
            yield f"order {order_id} was acknowledged and is gone"
    for order_id in snapshot.unannounced:
        yield f"order {order_id} was never announced"


def nothing_twice(snapshot: Snapshot) -> Iterator[str]:
    yield from _repeated("charges", (charge.order_id for charge in snapshot.charges))
    yield from _repeated("payments", (payment.order_id for payment in snapshot.payments))
    yield from _repeated("reservations", (r.order_id for r in snapshot.reservations))
    yield from _repeated("shipments", (s.order_id for s in snapshot.shipments if s.status))
    yield from _money(snapshot)
    yield from _left_undone(snapshot)
    yield from _sold_twice(snapshot)


def _repeated(what: str, order_ids: Iterable[str]) -> Iterator[str]:
    for order_id, count in Counter(order_ids).items():
        if count > 1:
            yield f"order {order_id} has {count} {what}"


def _money(snapshot: Snapshot) -> Iterator[str]:
    """What the provider kept is what the order says it is owed, and what payments believes."""
    charges = {charge.order_id: charge for charge in snapshot.charges}
    for order in snapshot.orders:
        charge = charges.get(order.id)
        kept = charge.amount - charge.refunded if charge else 0
        if order.status in FULFILLED and (charge is None or charge.amount != order.total):
            yield f"order {order.id} is {order.status}; the provider charged {charge}"
        if order.status == "cancelled" and kept:
            yield f"order {order.id} is cancelled; the provider keeps {kept}"
    for payment in snapshot.payments:
        charge = charges.get(payment.order_id)
        at_provider = (charge.amount, charge.refunded) if charge else (0, 0)
        if (payment.captured, payment.refunded) != at_provider:
            yield f"order {payment.order_id}: {payment} but the provider has {charge}"


def _left_undone(snapshot: Snapshot) -> Iterator[str]:
    """A cancelled order holds no stock and has no parcel."""
    cancelled = {order.id for order in snapshot.orders if order.status == "cancelled"}
    for reservation in snapshot.reservations:
        if reservation.order_id in cancelled and reservation.status in {"reserved", "dispatched"}:
            yield f"order {reservation.order_id} is cancelled; its stock is {reservation.status}"
    for shipment in snapshot.shipments:
        if shipment.order_id in cancelled and shipment.status not in {None, "voided"}:
            yield f"order {shipment.order_id} is cancelled; its parcel is {shipment.status}"


def _sold_twice(snapshot: Snapshot) -> Iterator[str]:
    """What is paid for was set aside, and what arrived has left the shelf."""
    reservations = {r.order_id: r.status for r in snapshot.reservations}
    for order in snapshot.orders:
        held = reservations.get(order.id)
        good = {"dispatched"} if order.status == "delivered" else {"reserved", "dispatched"}
        if order.status in FULFILLED and held not in good:
            yield f"order {order.id} is {order.status}; its stock is {held}"


def units_conserved(snapshot: Snapshot) -> Iterator[str]:
    for row in snapshot.stock:
        where = f"{row.sku} in {row.warehouse}"
        if min(row.available, row.reserved, row.dispatched) < 0:
            yield f"{where}: negative: {row}"
        if row.available + row.reserved + row.dispatched != row.received:
            yield f"{where}: units lost or found: {row}"
        if (row.reserved, row.dispatched) != (row.lines_reserved, row.lines_dispatched):
            yield f"{where}: reservations add up to something else: {row}"


def nobody_stuck(snapshot: Snapshot) -> Iterator[str]:
    waiting = {p.order_id for p in snapshot.payments if p.status == "requires_action"}
    for order in snapshot.orders:
        unpaid = snapshot.taken_at - order.placed_at
        idle = snapshot.taken_at - order.changed_at
        if order.status == "pending" and unpaid > snapshot.payment_deadline + LATENESS:
            yield f"order {order.id} is not cancelled, unpaid for {unpaid.total_seconds():.0f} s"
        elif _waits_for_service(order, order.id in waiting) and idle > STEP_DEADLINE:
            yield f"order {order.id} is {order.status} for {idle.total_seconds():.0f} s"


def _waits_for_service(order: OrderRow, waits_for_customer: bool) -> bool:  # noqa: FBT001
    """False once it has ended, and while it is a customer's or a carrier's turn."""
    if order.status in {"processing", "shipped"}:
        return order.tracking_number is None
    return order.status in {"pending", "cancelling"} and not waits_for_customer


def everything_drained(snapshot: Snapshot) -> Iterator[str]:
    for service, count in snapshot.unpublished.items():
        if count:
            yield f"{service} has {count} events that were not published"
    for queue, count in snapshot.queued.items():
        if count:
            yield f"queue {queue} holds {count} messages"
    for letter in snapshot.dead_letters:
        yield f"{letter.service} gave up on {letter.topic}: {letter.reason[:100]}"


def nothing_backwards(snapshot: Snapshot) -> Iterator[str]:
    orders = {order.id: order for order in snapshot.orders}
    last: dict[str, tuple[int, str]] = {}
    for step in sorted(snapshot.history, key=lambda s: (s.order_id, s.version)):
        version, status = last.get(step.order_id, (0, ""))
        if step.version != version + 1:
            yield f"order {step.order_id} went from version {version} to {step.version}"
        if status and step.status not in EDGES.get(status, ()):
            yield f"order {step.order_id} went from {status} to {step.status}"
        last[step.order_id] = (step.version, step.status)
    for order in orders.values():
        if last.get(order.id) != (order.version, order.status):
            yield f"order {order.id} is {order.status}, its history ends at {last.get(order.id)}"
    shown = {projection.order_id: projection.status for projection in snapshot.projections}
    for order in orders.values():
        if shown.get(order.id) != order.status:
            yield f"order {order.id} is {order.status}, the dashboard shows {shown.get(order.id)}"


def _orders(snapshot: Snapshot) -> int:
    return len(snapshot.orders)


INVARIANTS = (
    Invariant(
        "I1",
        "No acknowledged order is lost",
        ("orders", "acknowledged", "unannounced"),
        nothing_lost,
        lambda snapshot: len(snapshot.acknowledged),
    ),
    Invariant(
        "I2",
        "One charge, one reservation, one shipment per order at most; all undone if cancelled",
        ("orders", "payments", "charges", "reservations", "shipments"),
        nothing_twice,
        _orders,
    ),
    Invariant(
        "I3",
        "Stock is never negative; available + reserved + dispatched = received",
        ("stock",),
        units_conserved,
        lambda snapshot: len(snapshot.stock),
    ),
    Invariant(
        "I4",
        "Every order ends, or waits for a person, by its deadline",
        ("orders", "payments"),
        nobody_stuck,
        _orders,
    ),
    Invariant(
        "I5",
        "Outboxes and queues drain; nothing lies at the dead-letter desk",
        ("unpublished", "queued", "dead_letters"),
        everything_drained,
        lambda snapshot: len(snapshot.unpublished) + len(snapshot.queued),
    ),
    Invariant(
        "I6",
        "No event moves state backwards",
        ("orders", "history", "projections"),
        nothing_backwards,
        lambda snapshot: len(snapshot.history),
    ),
)


def is_settled(snapshot: Snapshot) -> bool:
    """True once nothing is under way: what is not right by then never will be."""
    busy = any(snapshot.unpublished.values()) or any(snapshot.queued.values())
    return not busy and not under_way(snapshot)


def under_way(snapshot: Snapshot) -> list[OrderRow]:
    """The orders that some service, and no person, has still to do something for."""
    waiting = {p.order_id for p in snapshot.payments if p.status == "requires_action"}
    return [o for o in snapshot.orders if _waits_for_service(o, o.id in waiting)]
