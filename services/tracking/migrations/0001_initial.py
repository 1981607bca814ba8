"""Shipments and their scans."""

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
        "shipments",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("order_id", sa.Uuid, nullable=False),
        sa.Column("user_id", sa.Uuid, nullable=False),
        sa.Column("shipping_address", JSONB),
        sa.Column("is_wanted", sa.Boolean, nullable=False),
        sa.Column("tracking_number", sa.Text),
        sa.Column("status", sa.Text),
        sa.Column("version", sa.Integer, server_default="0", nullable=False),
        sa.Column("created_at", _TIME),
        sa.Column("updated_at", _TIME),
        sa.PrimaryKeyConstraint("id", name="pk_shipments"),
        sa.UniqueConstraint("order_id", name="uq_shipments_order_id"),
        sa.UniqueConstraint("tracking_number", name="uq_shipments_tracking_number"),
        sa.CheckConstraint(
            "tracking_number IS NULL OR shipping_address IS NOT NULL AND is_wanted",
            name="ck_shipments_made_when_complete",
        ),
    )
    op.create_index("ix_shipments_user_id_id", "shipments", ["user_id", "id"])
    op.create_table(
        "scans",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("shipment_id", sa.Uuid, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("location", sa.Text, nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("recorded_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_scans"),
        sa.ForeignKeyConstraint(["shipment_id"], ["shipments.id"], name="fk_scans_shipment_id"),
    )
    op.create_index("ix_scans_shipment_id_id", "scans", ["shipment_id", "id"])
