"""What is known of orders and SKUs, and the feed."""

import sqlalchemy as sa
from alembic import op
from chassis.migrations import v1

revision = "0001"
down_revision = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    v1.upgrade()
    op.create_table(
        "order_summaries",
        sa.Column("order_id", sa.Uuid, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("placed_at", _TIME),
        sa.Column("total", sa.BigInteger),
        sa.Column("currency", sa.Text),
        sa.Column("tracking_number", sa.Text),
        sa.Column("tracked_at", _TIME),
        sa.Column("paid", sa.BigInteger, nullable=False),
        sa.Column("refunded", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("order_id", name="pk_order_summaries"),
    )
    op.create_index("ix_order_summaries_placed_at", "order_summaries", ["placed_at"])
    op.create_index(
        "ix_order_summaries_open",
        "order_summaries",
        ["status"],
        postgresql_where=sa.text("status IN ('cancelling', 'pending', 'processing', 'shipped')"),
    )
    op.create_table(
        "feed_lines",
        sa.Column("sequence", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("order_id", sa.Uuid),
        sa.Column("revision", sa.Text, nullable=False),
        sa.Column("phrase", sa.Text, nullable=False),
        sa.Column("amount", sa.BigInteger),
        sa.Column("currency", sa.Text),
        sa.Column("occurred_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_feed_lines"),
        sa.UniqueConstraint(
            "order_id", "topic", "revision", name="uq_feed_lines_order_id_topic_revision"
        ),
    )
    op.create_table(
        "sku_summaries",
        sa.Column("sku", sa.Text, nullable=False),
        sa.Column("product_version", sa.Integer, server_default="0", nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("active", sa.Boolean, server_default=sa.text("true"), nullable=False),
        sa.Column("available", sa.BigInteger),
        sa.Column("threshold", sa.BigInteger),
        sa.Column("alerted_at", _TIME),
        sa.PrimaryKeyConstraint("sku", name="pk_sku_summaries"),
    )
    op.create_index("ix_sku_summaries_alerted_at", "sku_summaries", ["alerted_at"])
