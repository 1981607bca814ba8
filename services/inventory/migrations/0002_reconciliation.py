"""The chassis's second version."""

from chassis.migrations import v2

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    v2.upgrade()
