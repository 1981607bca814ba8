"""Contacts, and the notifications that are to be sent or were."""

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
        "contacts",
        sa.Column("user_id", sa.Uuid, nullable=False),
        sa.Column("email", sa.Text),
        sa.Column("name", sa.Text),
        sa.Column("email_notifications", sa.Boolean, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_contacts"),
    )
    op.create_table(
        "notifications",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("user_id", sa.Uuid),
        sa.Column("order_id", sa.Uuid),
        sa.Column("template", sa.Text, nullable=False),
        sa.Column("dedupe_key", sa.Text, nullable=False),
        sa.Column("params", JSONB, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("refusal", sa.Text),
        sa.Column("trace_parent", sa.Text),
        sa.Column("leased_until", _TIME),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("sent_at", _TIME),
        sa.PrimaryKeyConstraint("id", name="pk_notifications"),
        sa.UniqueConstraint("dedupe_key", name="uq_notifications_dedupe_key"),
    )
    op.create_index(
        "ix_notifications_pending",
        "notifications",
        ["id"],
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index("ix_notifications_user_id_id", "notifications", ["user_id", "id"])
