"""Runs the journal's migrations over the connection that `Journal.migrate` hands in."""

from alembic import context

from stackyard.control.journal import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
