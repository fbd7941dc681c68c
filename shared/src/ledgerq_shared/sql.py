"""A statement: :mod:`ledgerq_shared.statements` builds it, :mod:`ledgerq_shared.postgres.database` runs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

Row = TypeVar("Row")

#: The row type of a statement that returns no rows.
Nothing = tuple[()]


class Statement(NamedTuple, Generic[Row]):
    """SQL, its parameters (psycopg2's named style), and the type of its rows.

    A builder's signature says which type the rows have. ``Statement[tuple[str, int]]`` costs nothing: it is psycopg2's
    own tuple. ``row`` makes a row with names, and is called once for each row.
    """

    sql: str
    params: dict[str, Any]
    #: The name under which a session keeps the statement prepared, if it can (:mod:`ledgerq_shared.postgres.prepared`). The
    #: same name always has the same SQL, every parameter has a type, and every row is found by an index. None: it is planned
    #: each time.
    name: str | None = None
    #: Makes a row from psycopg2's tuple (``ClaimedTask._make``). None: that tuple is the row.
    row: Callable[[tuple[Any, ...]], Row] | None = None
