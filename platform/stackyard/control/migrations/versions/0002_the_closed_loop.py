"""The closed loop: what a run was meant to learn from, what was found out, and how far time may go."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    """Create and widen the tables."""
    op.add_column("decisions", sa.Column("topic", sa.String, nullable=False, server_default=""))
    op.add_column("runs", sa.Column("wish", sa.String))
    op.add_column("runs", sa.Column("asked", sa.JSON))
    op.create_table(
        "documents",
        sa.Column("model", sa.String, primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("at", sa.String, nullable=False),
    )
    op.create_table(
        "pulse",
        sa.Column("model", sa.String, primary_key=True),
        sa.Column("at", sa.String, nullable=False),
        sa.Column("settled", sa.Boolean, nullable=False),
        sa.Column("why", sa.String, nullable=False),
    )
