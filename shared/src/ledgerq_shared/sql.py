"""A statement: what the builders in :mod:`ledgerq_shared.statements` make and :mod:`ledgerq_shared.database` runs."""

from __future__ import annotations

from typing import Any, NamedTuple


class Statement(NamedTuple):
    """SQL and its parameters (psycopg2's named style)."""

    sql: str
    params: dict[str, Any]
