"""What became of a transaction whose connection was lost in COMMIT. PostgreSQL knows, if it is asked by number."""

from __future__ import annotations

from ledgerq_shared.sql import Statement


def current_transaction() -> Statement:
    """Row ``(number, pid)``: this transaction's number, null if it has written nothing so far, and its server process."""
    return Statement("SELECT txid_current_if_assigned(), pg_backend_pid()", {})


def transaction_status(number: int) -> Statement:
    """Row ``(status,)``: ``committed``, ``aborted``, ``in progress``, or null for one that PostgreSQL has forgotten.

    A number that PostgreSQL has not given out yet is an error (SQLSTATE 22023): it is another server now.
    """
    return Statement("SELECT txid_status(%(number)s)", {"number": number})


def end_idle_transaction(pid: int) -> Statement:
    """End a transaction of ours whose client is gone, which its server process does not know yet. Row ``(True,)``."""
    return Statement(
        """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE pid = %(pid)s AND usename = current_user AND state LIKE 'idle in transaction%%' AND backend_xid IS NOT NULL
        """,
        {"pid": pid},
    )
