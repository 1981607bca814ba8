"""What reconciliation, the desk's decisions and pruning need. Never edited: add a v3."""

import sqlalchemy as sa
from alembic import op

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    # A constant default first: it needs no rewrite of the table, and whatever was logged before
    # has committed long ago, so 0 puts it in front of all transactions to come.
    op.add_column(
        "event_log", sa.Column("transaction_id", sa.BigInteger, server_default="0", nullable=False)
    )
    op.alter_column(
        "event_log",
        "transaction_id",
        server_default=sa.text("(pg_current_xact_id())::text::bigint"),
    )
    op.create_index(
        "ix_event_log_transaction_id_sequence", "event_log", ["transaction_id", "sequence"]
    )
    op.create_index("ix_event_log_key_sequence", "event_log", ["key", "sequence"])
    op.create_table(
        "watermarks",
        sa.Column("producer", sa.Text, nullable=False),
        sa.Column("cursor", sa.Text, nullable=False),
        sa.Column("moved_at", _TIME, server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("producer", name="pk_watermarks"),
    )
    op.add_column("dead_letters", sa.Column("resolution", sa.Text))
    op.add_column("dead_letters", sa.Column("resolved_at", _TIME))
    op.add_column("dead_letters", sa.Column("resolved_by", sa.Text))
