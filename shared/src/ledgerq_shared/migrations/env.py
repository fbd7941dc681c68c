"""Alembic's environment: one transaction, one at a time, on the connection that :mod:`ledgerq_shared.migrate` passes."""

from __future__ import annotations

from alembic import context

#: Arbitrary, but the same for every process that migrates: several starting at once wait for one another.
_MIGRATION_LOCK = 7_233_519_004

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=None, transaction_per_migration=False)
with context.begin_transaction():
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
    context.run_migrations()
