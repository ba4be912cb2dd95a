"""Runs migrations on the connection that `storage.database.migrate` hands over."""

from __future__ import annotations

from alembic import context

from hilum.storage.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, user_module_prefix="")
with context.begin_transaction():
    context.run_migrations()
