"""Orders, their items and their history."""

import sqlalchemy as sa
from alembic import op
from chassis.migrations import v1
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    v1.upgrade()
    op.create_table(
        "orders",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("user_id", sa.Uuid, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("total", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("shipping_address", JSONB, nullable=False),
        sa.Column("package", JSONB),
        sa.Column("payment_method", sa.Text, nullable=False),
        sa.Column("payment_id", sa.Uuid),
        sa.Column("stock_reserved_at", _TIME),
        sa.Column("tracking_number", sa.Text),
        sa.Column("cancellation_reason", sa.Text),
        sa.Column("refunded", sa.BigInteger, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_orders"),
        sa.CheckConstraint("total >= 0", name="ck_orders_total_not_negative"),
    )
    op.create_index("ix_orders_user_id_id", "orders", ["user_id", "id"])
    op.create_index("ix_orders_status_id", "orders", ["status", "id"])
    op.create_table(
        "order_items",
        sa.Column("order_id", sa.Uuid, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("sku", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.Column("unit_price", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("order_id", "position", name="pk_order_items"),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name="fk_order_items_order_id"),
        sa.CheckConstraint("quantity > 0", name="ck_order_items_quantity_positive"),
    )
    op.create_table(
        "order_history",
        sa.Column("order_id", sa.Uuid, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("occurred_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("order_id", "version", name="pk_order_history"),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name="fk_order_history_order_id"),
    )
