"""Warehouses, stock and reservations; the first warehouse is `main`."""

import sqlalchemy as sa
from alembic import op
from chassis.migrations import v1
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    v1.upgrade()
    _create_stock()
    _create_reservations()


def _create_stock() -> None:
    warehouses = op.create_table(
        "warehouses",
        sa.Column("name", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_warehouses"),
    )
    op.bulk_insert(warehouses, [{"name": "main"}])
    op.create_table(
        "skus",
        sa.Column("sku", sa.Text, nullable=False),
        sa.Column("low_stock_threshold", sa.Integer, server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("sku", name="pk_skus"),
        sa.CheckConstraint(
            "low_stock_threshold >= 0", name="ck_skus_low_stock_threshold_not_negative"
        ),
    )
    op.create_table(
        "stock",
        sa.Column("sku", sa.Text, nullable=False),
        sa.Column("warehouse", sa.Text, nullable=False),
        sa.Column("received", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("available", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("reserved", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("dispatched", sa.BigInteger, server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("sku", "warehouse", name="pk_stock"),
        sa.ForeignKeyConstraint(["sku"], ["skus.sku"], name="fk_stock_sku"),
        sa.ForeignKeyConstraint(["warehouse"], ["warehouses.name"], name="fk_stock_warehouse"),
        sa.CheckConstraint("received >= 0", name="ck_stock_received_not_negative"),
        sa.CheckConstraint("available >= 0", name="ck_stock_available_not_negative"),
        sa.CheckConstraint("reserved >= 0", name="ck_stock_reserved_not_negative"),
        sa.CheckConstraint("dispatched >= 0", name="ck_stock_dispatched_not_negative"),
        sa.CheckConstraint(
            "available + reserved + dispatched = received", name="ck_stock_units_conserved"
        ),
    )


def _create_reservations() -> None:
    op.create_table(
        "reservations",
        sa.Column("order_id", sa.Uuid, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("shortages", JSONB),
        sa.Column("decided_at", _TIME),
        sa.Column("ended_at", _TIME),
        sa.PrimaryKeyConstraint("order_id", name="pk_reservations"),
    )
    op.create_table(
        "reservation_lines",
        sa.Column("order_id", sa.Uuid, nullable=False),
        sa.Column("sku", sa.Text, nullable=False),
        sa.Column("warehouse", sa.Text, nullable=False),
        sa.Column("quantity", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("order_id", "sku", "warehouse", name="pk_reservation_lines"),
        sa.ForeignKeyConstraint(
            ["order_id"], ["reservations.order_id"], name="fk_reservation_lines_order_id"
        ),
        sa.ForeignKeyConstraint(
            ["sku", "warehouse"],
            ["stock.sku", "stock.warehouse"],
            name="fk_reservation_lines_sku_warehouse",
        ),
        sa.CheckConstraint("quantity > 0", name="ck_reservation_lines_quantity_positive"),
    )
