"""A statement: what the builders in :mod:`ledgerq_shared.statements` make and :mod:`ledgerq_shared.database` runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple

from typing_extensions import TypeVar

Row = TypeVar("Row", default=tuple[Any, ...])

#: The row of a statement that returns none.
Nothing = tuple[()]


class Statement(NamedTuple, Generic[Row]):
    """SQL, its parameters (psycopg2's named style), and what a row of its answer is.

    The type of a row is what its builder says in its signature. ``Statement[tuple[str, int]]`` costs nothing: it is
    psycopg2's own tuple. A row with names is made by ``row``, once for each.
    """

    sql: str
    params: dict[str, Any]
    #: Under which a session that can keeps it prepared (:mod:`ledgerq_shared.prepared`): always the same SQL under the same
    #: name, every parameter with its type, every row found by an index. None: planned each time.
    name: str | None = None
    #: Makes a row of psycopg2's tuple (``ClaimedTask._make``). None: that tuple is the row.
    row: Callable[[tuple[Any, ...]], Row] | None = None
