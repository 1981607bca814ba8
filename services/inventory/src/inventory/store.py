"""Named queries over stock and reservations.

Every transaction locks reservations first, by order, then stock, by SKU and warehouse: batches
that share orders or SKUs wait for each other, and never in a circle.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from chassis.paging import PageQuery
from contracts.inventory import ReservedLine
from sqlalchemy import ARRAY, BigInteger, Text, Uuid, any_, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from inventory.domain import (
    Allocation,
    Level,
    Movement,
    Reservation,
    ReservationLine,
    ReservationStatus,
    Sku,
    Stock,
)


@dataclass(frozen=True)
class StockTotals:
    """The units of a SKU over all warehouses."""

    sku: str
    available: int
    reserved: int
    low_stock_threshold: int


@dataclass(frozen=True)
class Receipt:
    """Units that arrive at a warehouse."""

    sku: str
    warehouse: str
    quantity: int


async def lock_reservations(
    session: AsyncSession, order_ids: Iterable[UUID]
) -> dict[UUID, Reservation]:
    """Locks the orders' reservations; makes those that are not there yet."""
    rows = [
        {"order_id": order_id, "status": ReservationStatus.NEW} for order_id in sorted(order_ids)
    ]
    reservations = await session.scalars(_RESERVATIONS_MADE_AND_LOCKED, rows)
    return {reservation.order_id: reservation for reservation in reservations}


# An update that changes nothing, but locks and returns the row, in one statement for old and new.
_RESERVATIONS_MADE_AND_LOCKED = (
    insert(Reservation)
    .on_conflict_do_update(
        index_elements=[Reservation.order_id], set_={"status": Reservation.status}
    )
    .returning(Reservation)
)


async def lines_of(
    session: AsyncSession, reservations: Iterable[Reservation]
) -> Mapping[UUID, Sequence[ReservedLine]]:
    lines: defaultdict[UUID, list[ReservedLine]] = defaultdict(list)
    if order_ids := [reservation.order_id for reservation in reservations]:
        for row in await session.execute(_LINES, {"order_ids": order_ids}):
            lines[row.order_id].append(
                ReservedLine(sku=row.sku, warehouse=row.warehouse, quantity=row.quantity)
            )
    return lines


_LINES = (
    select(
        ReservationLine.order_id,
        ReservationLine.sku,
        ReservationLine.warehouse,
        ReservationLine.quantity,
    )
    .where(ReservationLine.order_id == any_(bindparam("order_ids", type_=ARRAY(Uuid))))
    .order_by(ReservationLine.order_id, ReservationLine.sku, ReservationLine.warehouse)
)


async def lock_stock(session: AsyncSession, skus: Iterable[str]) -> list[Level]:
    """Locks the SKUs' stock in every warehouse that has a row for it."""
    rows = await session.execute(_STOCK_LOCKED, {"skus": list(set(skus))})
    return [Level(*row) for row in rows]


_STOCK_LOCKED = (
    select(Stock.sku, Stock.warehouse, Stock.available, Sku.low_stock_threshold)
    .join(Sku)
    .where(Stock.sku == any_(bindparam("skus", type_=ARRAY(Text))))
    .order_by(Stock.sku.collate("C"), Stock.warehouse.collate("C"))  # as Python sorts receipts
    .with_for_update(of=Stock)
)


async def move(session: AsyncSession, movement: Movement, lines: Iterable[ReservedLine]) -> None:
    """Moves the lines' units; the caller holds the locks."""
    units = Counter[tuple[str, str]]()
    for line in lines:
        units[line.sku, line.warehouse] += line.quantity
    if not units:
        return
    available, reserved, dispatched = movement.value
    rows = {
        "skus": [sku for sku, _ in units],
        "warehouses": [warehouse for _, warehouse in units],
        "quantities": list(units.values()),
    }
    signs = {"available": available, "reserved": reserved, "dispatched": dispatched}
    await session.execute(_MOVE, rows | signs)


_MOVE = text(
    """
    UPDATE stock
    SET available = stock.available + moved.quantity * :available,
        reserved = stock.reserved + moved.quantity * :reserved,
        dispatched = stock.dispatched + moved.quantity * :dispatched
    FROM unnest(:skus, :warehouses, :quantities) AS moved (sku, warehouse, quantity)
    WHERE stock.sku = moved.sku AND stock.warehouse = moved.warehouse
    """
).bindparams(
    bindparam("skus", type_=ARRAY(Text)),
    bindparam("warehouses", type_=ARRAY(Text)),
    bindparam("quantities", type_=ARRAY(BigInteger)),
    *(bindparam(sign, type_=BigInteger) for sign in ("available", "reserved", "dispatched")),
)


async def add_lines(session: AsyncSession, allocations: Iterable[Allocation]) -> None:
    rows = [
        {"order_id": allocation.order_id, **line.model_dump()}
        for allocation in allocations
        for line in allocation.lines
    ]
    if rows:
        await session.execute(insert(ReservationLine), rows)


async def add_skus(session: AsyncSession, skus: Iterable[str]) -> None:
    """Makes the SKUs known; those that are known already stay as they are."""
    rows = [{"sku": sku} for sku in sorted(set(skus))]
    await session.execute(insert(Sku).on_conflict_do_nothing(), rows)


async def set_thresholds(session: AsyncSession, thresholds: Mapping[str, int]) -> None:
    """Sets the SKUs' thresholds; makes those known that are not yet."""
    rows = [{"sku": sku, "low_stock_threshold": thresholds[sku]} for sku in sorted(thresholds)]
    new = insert(Sku)
    await session.execute(
        new.on_conflict_do_update(
            index_elements=["sku"],
            set_={"low_stock_threshold": new.excluded.low_stock_threshold},
        ),
        rows,
    )


async def receive(session: AsyncSession, receipts: Iterable[Receipt]) -> None:
    """Books units in. The SKUs and warehouses are known, and no shelf is in two receipts."""
    new = insert(Stock)
    rows = [
        {
            "sku": receipt.sku,
            "warehouse": receipt.warehouse,
            "received": receipt.quantity,
            "available": receipt.quantity,
        }
        for receipt in sorted(receipts, key=lambda r: (r.sku, r.warehouse))
    ]
    await session.execute(
        new.on_conflict_do_update(
            index_elements=["sku", "warehouse"],
            set_={
                "received": Stock.received + new.excluded.received,
                "available": Stock.available + new.excluded.available,
            },
        ),
        rows,
    )


_AVAILABLE = func.coalesce(func.sum(Stock.available), 0).cast(BigInteger)
_RESERVED = func.coalesce(func.sum(Stock.reserved), 0).cast(BigInteger)
_TOTALS = (
    select(Sku.sku, _AVAILABLE, _RESERVED, Sku.low_stock_threshold)
    .outerjoin(Stock)
    .group_by(Sku.sku)
)
_LOW = _TOTALS.having(Sku.low_stock_threshold >= _AVAILABLE)


async def totals_of(session: AsyncSession, sku: str) -> StockTotals | None:
    row = (await session.execute(_TOTALS.where(Sku.sku == sku))).one_or_none()
    return StockTotals(*row) if row else None


async def page(
    session: AsyncSession, query: PageQuery, *, low: bool
) -> tuple[list[StockTotals], int]:
    """By SKU, all or only those at their threshold or below; and how many there are of them."""
    wanted = _LOW if low else _TOTALS
    counted = _LOW.with_only_columns(Sku.sku) if low else select(Sku.sku)
    total = await session.scalar(select(func.count()).select_from(counted.subquery()))
    rows = await session.execute(
        wanted.order_by(Sku.sku).offset(query.offset).limit(query.page_size)
    )
    return [StockTotals(*row) for row in rows], total or 0


async def stock_of(session: AsyncSession, sku: str) -> Sequence[Stock]:
    query = select(Stock).where(Stock.sku == sku).order_by(Stock.warehouse)
    return (await session.scalars(query)).all()
