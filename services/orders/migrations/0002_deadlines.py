"""The chassis's second version, and when an order was last helped on its way."""

import sqlalchemy as sa
from alembic import op
from chassis.migrations import v2

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    v2.upgrade()
    op.add_column("orders", sa.Column("prompts", sa.Integer, server_default="0", nullable=False))
    op.add_column("orders", sa.Column("prompted_at", sa.DateTime(timezone=True)))
    op.create_index(
        "ix_orders_waiting",
        "orders",
        ["updated_at"],
        postgresql_where=sa.text(
            "status IN ('pending', 'cancelling')"
            " OR (status = 'processing' AND tracking_number IS NULL)"
        ),
    )
