"""Alembic's environment: a transaction on the connection that :mod:`ledgerq_shared.migrate` passes."""

from __future__ import annotations

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=None, transaction_per_migration=True)
with context.begin_transaction():
    if context.config.attributes.get("is_brief"):
        # A step that takes longer would hold a strong lock for that long: it belongs in `online`.
        connection.exec_driver_sql("SET LOCAL statement_timeout = '1s'")
    context.run_migrations()
