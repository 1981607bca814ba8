"""What inventory does with orders, a batch at a time, and with deliveries of stock."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from chassis.database import on_commit
from chassis.event_log import append
from chassis.problems import NotFound, Problem
from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncSession

from inventory import store
from inventory.domain import (
    Allocation,
    Demand,
    Movement,
    Reservation,
    ReservationStatus,
    Sku,
    Warehouse,
    allocate,
    low_stock,
)
from inventory.store import Receipt, StockTotals

RESERVATIONS = Counter(
    "stock_reservations_total", "Reservations by what became of them.", ["outcome"]
)

MAIN_WAREHOUSE = "main"


class UnknownSku(NotFound):
    pass


class UnknownWarehouse(Problem):
    status = 422


async def reserve(session: AsyncSession, demands: Mapping[UUID, Demand]) -> None:
    """Answers each order with what it gets, or again with what it got."""
    reservations = await store.lock_reservations(session, demands)
    shipped_early = _with_status(reservations, ReservationStatus.SHIPPED_EARLY)
    open_ = [demands[order_id] for order_id, r in reservations.items() if r.is_open]
    if open_:
        await _decide(session, reservations, open_)
    await _announce(session, reservations.values())
    await _dispatch(session, shipped_early)


def _with_status(
    reservations: Mapping[UUID, Reservation], status: ReservationStatus
) -> list[Reservation]:
    return [r for r in reservations.values() if r.status == status]


async def _decide(
    session: AsyncSession, reservations: Mapping[UUID, Reservation], demands: Sequence[Demand]
) -> None:
    now = datetime.now(UTC)
    levels = await store.lock_stock(session, (sku for d in demands for sku in d.quantities))
    allocations = allocate(levels, demands)
    taken = [line for allocation in allocations for line in allocation.lines]
    for allocation in allocations:
        reservations[allocation.order_id].decide(allocation, now)
    await store.move(session, Movement.RESERVE, taken)
    await store.add_lines(session, allocations)
    await append(session, *low_stock(levels, taken, now))
    _count_decided(session, allocations)


def _count_decided(session: AsyncSession, allocations: Sequence[Allocation]) -> None:
    rejected = sum(1 for allocation in allocations if allocation.shortages)
    _count(session, ReservationStatus.REJECTED, rejected)
    _count(session, ReservationStatus.RESERVED, len(allocations) - rejected)


def _count(session: AsyncSession, outcome: ReservationStatus, reservations: int) -> None:
    on_commit(session, partial(RESERVATIONS.labels(outcome).inc, reservations))


async def _announce(session: AsyncSession, reservations: Collection[Reservation]) -> None:
    lines = await store.lines_of(session, reservations)
    outcomes = [r.outcome(lines[r.order_id]) for r in reservations]
    await append(session, *filter(None, outcomes))


async def release(session: AsyncSession, order_ids: Iterable[UUID]) -> None:
    """Gives cancelled orders' units back, once; an order that had none stays without."""
    now = datetime.now(UTC)
    reservations = await store.lock_reservations(session, order_ids)
    released = [r for r in reservations.values() if r.cancel(now)]
    await _move_units(session, Movement.RELEASE, released)
    await _announce(session, _with_status(reservations, ReservationStatus.RELEASED))
    _count(session, ReservationStatus.RELEASED, len(released))


async def dispatch(session: AsyncSession, order_ids: Iterable[UUID]) -> None:
    """Books shipped orders' units out, once."""
    reservations = await store.lock_reservations(session, order_ids)
    await _dispatch(session, reservations.values())


async def _dispatch(session: AsyncSession, shipped: Iterable[Reservation]) -> None:
    now = datetime.now(UTC)
    dispatched = [r for r in shipped if r.ship(now)]
    await _move_units(session, Movement.DISPATCH, dispatched)
    _count(session, ReservationStatus.DISPATCHED, len(dispatched))


async def _move_units(
    session: AsyncSession, movement: Movement, reservations: Sequence[Reservation]
) -> None:
    if not reservations:
        return
    by_order = await store.lines_of(session, reservations)
    lines = [line for lines in by_order.values() for line in lines]
    await store.lock_stock(session, (line.sku for line in lines))
    await store.move(session, movement, lines)


async def get_stock(session: AsyncSession, sku: str) -> StockTotals:
    """Raises `UnknownSku`."""
    totals = await store.totals_of(session, sku)
    if totals is None:
        raise _unknown(sku)
    return totals


def _unknown(sku: str) -> UnknownSku:
    return UnknownSku(f"There is no SKU {sku!r} in stock.")


async def restock(session: AsyncSession, receipt: Receipt) -> StockTotals:
    """Raises `UnknownSku` or `UnknownWarehouse`."""
    if await session.get(Sku, receipt.sku) is None:
        raise _unknown(receipt.sku)
    if await session.get(Warehouse, receipt.warehouse) is None:
        violation = {"field": "warehouse", "in": "body", "rule": "known_warehouse"}
        raise UnknownWarehouse(f"There is no warehouse {receipt.warehouse!r}.", errors=[violation])
    await store.receive(session, [receipt])
    return await get_stock(session, receipt.sku)


async def set_threshold(session: AsyncSession, sku: str, threshold: int) -> StockTotals:
    """Raises `UnknownSku`."""
    known = await session.get(Sku, sku, with_for_update=True)
    if known is None:
        raise _unknown(sku)
    known.low_stock_threshold = threshold
    await session.flush()
    return await get_stock(session, sku)


async def import_stock(
    session: AsyncSession, quantities: Mapping[str, int], thresholds: Mapping[str, int]
) -> None:
    """Books units into the main warehouse. A SKU may be here before its product is announced."""
    await store.set_thresholds(session, thresholds)
    receipts = (Receipt(sku, MAIN_WAREHOUSE, quantity) for sku, quantity in quantities.items())
    await store.receive(session, receipts)
