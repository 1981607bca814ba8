"""Products, and the text that they are found by."""

import sqlalchemy as sa
from alembic import op
from chassis.migrations import v1
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR

revision = "0001"
down_revision = None

_TIME = sa.DateTime(timezone=True)
_SEARCH = """
setweight(to_tsvector('simple'::regconfig, name), 'A'::"char")
|| setweight(to_tsvector('english'::regconfig, name), 'A'::"char")
|| setweight(to_tsvector('simple'::regconfig, replace(sku, '-'::text, ' '::text)), 'A'::"char")
|| setweight(to_tsvector('simple'::regconfig, category), 'B'::"char")
|| setweight(to_tsvector('english'::regconfig, category), 'B'::"char")
|| setweight(to_tsvector('simple'::regconfig, description), 'C'::"char")
|| setweight(to_tsvector('english'::regconfig, description), 'C'::"char")
"""


def upgrade() -> None:
    v1.upgrade()
    op.create_table(
        "products",
        sa.Column("sku", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("category", sa.Text, nullable=False),
        sa.Column("price", sa.Integer, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("package", JSONB),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.Column("search", TSVECTOR, sa.Computed(_SEARCH, persisted=True), nullable=False),
        sa.PrimaryKeyConstraint("sku", name="pk_products"),
        sa.CheckConstraint("price >= 0", name="ck_products_price_not_negative"),
    )
    op.create_index("ix_products_search", "products", ["search"], postgresql_using="gin")
    op.create_index(
        "ix_products_for_sale", "products", ["category", "sku"], postgresql_where=sa.text("active")
    )
