"""The newest decision on a topic is found without reading all those after it, however old it is."""

from alembic import op

revision, down_revision = "0003", "0002"


def upgrade() -> None:
    """Add the index; its rows end with the id by themselves."""
    op.create_index("decisions_by_topic", "decisions", ["model", "topic", "id"])
