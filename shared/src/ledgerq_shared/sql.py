"""A statement: what the builders in :mod:`ledgerq_shared.statements` make and :mod:`ledgerq_shared.database` runs."""

from __future__ import annotations

from typing import Any, NamedTuple


class Statement(NamedTuple):
    """SQL and its parameters (psycopg2's named style)."""

    sql: str
    params: dict[str, Any]
    #: Under which a session that can keeps it prepared (:mod:`ledgerq_shared.prepared`): always the same SQL under the same
    #: name, every parameter with its type, every row found by an index. Null: planned each time.
    name: str | None = None
