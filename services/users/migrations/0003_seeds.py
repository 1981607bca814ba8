"""Finds the seeds that are still to be forgotten, which few of a session's tokens have."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_index(
        "ix_refresh_tokens_seeds",
        "refresh_tokens",
        ["session_id"],
        postgresql_where=sa.text("successor_seed IS NOT NULL"),
    )
