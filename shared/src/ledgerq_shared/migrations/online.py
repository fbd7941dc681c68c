"""Steps for a migration that runs while others work: they hold no strong lock while they read or wait.

Each ends the migration's transaction and begins a new one. So a migration that uses them must be able to begin again from
its first line: ``IF NOT EXISTS``, ``OR REPLACE``, ``ON CONFLICT DO NOTHING``.
"""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import Connection

_BATCH = 10_000


def build_index(name: str, definition: str) -> None:
    """Build an index of a table that may be large, while writers go on. ``definition`` is the text after ``ON``."""
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        broken = "SELECT FROM pg_index WHERE indexrelid = to_regclass(%(name)s) AND NOT indisvalid"
        if (
            connection.exec_driver_sql(broken, {"name": name}).first() is not None
        ):  # the process that built it was interrupted
            connection.exec_driver_sql(f"DROP INDEX CONCURRENTLY {name}")
        connection.exec_driver_sql(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {definition}")


def drop_index(name: str) -> None:
    """Drop an index while readers and writers go on."""
    with op.get_context().autocommit_block():
        op.get_bind().exec_driver_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def fill(sql: str) -> None:
    """Run a statement again and again, each time in a transaction of its own, for the rows after the key that it
    returned.

    Args:
        sql: does its work for at most ``%(limit)s`` rows after the key ``%(after)s`` (NULL: from the first row on);
            returns one row with the last key, or NULL or no row if nothing was left.
    """
    with op.get_context().autocommit_block():
        connection: Connection = op.get_bind()
        after: Any = None
        while (row := connection.exec_driver_sql(sql, {"after": after, "limit": _BATCH}).first()) and row[
            0
        ] is not None:
            after = str(row[0])
