"""Read back what a transaction with an unknown outcome may have written."""

from __future__ import annotations

from collections.abc import Sequence

from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.arrays import plain_array


def read_states(task_ids: Sequence[str]) -> Statement:
    """Rows ``(id, state, attempt)``."""
    return Statement(
        "SELECT id, state, attempt FROM task WHERE id = ANY(%(ids)s::uuid[])", {"ids": plain_array(task_ids)}
    )
