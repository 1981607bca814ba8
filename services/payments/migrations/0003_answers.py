"""Whether an attempt was answered, and when webhooks came, so that old ones are found."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("payment_attempts", sa.Column("answered_at", sa.DateTime(timezone=True)))
    op.create_index("ix_provider_events_received_at", "provider_events", ["received_at"])
