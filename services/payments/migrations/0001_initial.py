"""Payments, their attempts, their refunds, and the provider's webhooks that were taken in."""

import sqlalchemy as sa
from alembic import op
from chassis.migrations import v1

revision = "0001"
down_revision = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    v1.upgrade()
    _create_payments()
    _create_refunds()
    op.create_table(
        "provider_events",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("received_at", _TIME, server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_provider_events"),
    )


def _create_payments() -> None:
    op.create_table(
        "payments",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("order_id", sa.Uuid, nullable=False),
        sa.Column("user_id", sa.Uuid),
        sa.Column("amount", sa.BigInteger),
        sa.Column("currency", sa.Text),
        sa.Column("payment_method", sa.Text),
        sa.Column("reserved_at", _TIME),
        sa.Column("cancelled_at", _TIME),
        sa.Column("trace_parent", sa.Text),
        sa.Column("status", sa.Text, server_default="pending", nullable=False),
        sa.Column("intent_id", sa.Text),
        sa.Column("client_secret", sa.Text),
        sa.Column("failure_reason", sa.Text),
        sa.Column("captured", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("refunding", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("refunded", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("due_at", _TIME),
        sa.Column("tries", sa.Integer, server_default="0", nullable=False),
        sa.Column("created_at", _TIME, server_default=sa.func.now(), nullable=False),
        sa.Column("decided_at", _TIME),
        sa.PrimaryKeyConstraint("id", name="pk_payments"),
        sa.UniqueConstraint("order_id", name="uq_payments_order_id"),
        sa.CheckConstraint(
            "refunded <= refunding AND refunding <= captured", name="ck_payments_refunds_covered"
        ),
    )
    op.create_index("ix_payments_user_id_id", "payments", ["user_id", "id"])
    _create_index_of_due("payments")
    op.create_table(
        "payment_attempts",
        sa.Column("payment_id", sa.Uuid, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME),
        sa.Column("outcome", sa.Text),
        sa.PrimaryKeyConstraint("payment_id", "number", name="pk_payment_attempts"),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payments.id"], name="fk_payment_attempts_payment_id"
        ),
    )


def _create_refunds() -> None:
    op.create_table(
        "refunds",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("payment_id", sa.Uuid, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("provider_id", sa.Text),
        sa.Column("failure_reason", sa.Text),
        sa.Column("refunded_total", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("due_at", _TIME),
        sa.Column("tries", sa.Integer, server_default="0", nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("decided_at", _TIME),
        sa.PrimaryKeyConstraint("id", name="pk_refunds"),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.id"], name="fk_refunds_payment_id"),
        sa.CheckConstraint("amount > 0", name="ck_refunds_amount_positive"),
    )
    op.create_index("ix_refunds_payment_id", "refunds", ["payment_id"])
    _create_index_of_due("refunds")


def _create_index_of_due(table: str) -> None:
    where = sa.text("due_at IS NOT NULL")
    op.create_index(f"ix_{table}_due_at", table, ["due_at"], postgresql_where=where)
