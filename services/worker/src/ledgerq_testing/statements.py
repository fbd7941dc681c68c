"""What only tests do with a ledger: empty it, and let no task wait."""

from __future__ import annotations

from ledgerq_shared.sql import Nothing, Statement

#: Tables that a test leaves as they are: what they contain describes the session's code.
_KEPT = ("alembic_version", "leader", "task_type", "worker")


def tables_to_empty() -> Statement[tuple[str]]:
    """Names of the tables that a test may have written to."""
    return Statement(
        """
        SELECT c.relname::text FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
          AND c.relname <> ALL (%(kept)s::text[])
        """,
        {"kept": list(_KEPT)},
    )


def empty(tables: list[str]) -> Statement[Nothing]:
    """Delete all rows of these tables. The events' triggers, which refuse that, are off meanwhile: this needs a superuser,
    as whom nobody but a test works on a ledger.
    """
    deletes = "".join(f"DELETE FROM {table};" for table in tables)  # noqa: S608 (names from pg_class)
    return Statement(f"SET LOCAL session_replication_role = 'replica'; {deletes}", {})


def let_none_wait() -> Statement[Nothing]:
    """Let every task that waits for a time be due now."""
    return Statement("UPDATE held SET until = now() WHERE until > now()", {})


def queues_with_work() -> Statement[tuple[str]]:
    """Queues in which tasks may run now."""
    return Statement("SELECT DISTINCT queue FROM ready ORDER BY queue", {})
