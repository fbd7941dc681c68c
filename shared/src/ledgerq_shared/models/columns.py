"""The types of the tables' columns, and the metadata to which the tables belong.

The metadata is our own: a task module may define SQLModel tables, too, even a table of its own with the name ``task``.
"""

from __future__ import annotations

from sqlalchemy import MetaData, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSON, TIMESTAMP
from sqlalchemy.orm import registry
from sqlmodel import SQLModel

#: Each constraint has a fixed name, because the meaning of a violation is read from the constraint's name.
_NAMES = {"ix": "ix_%(table_name)s_%(column_0_N_name)s", "ck": "ck_%(table_name)s_%(constraint_name)s"}

_metadata = MetaData(naming_convention=_NAMES)
_registry = registry(metadata=_metadata)


class LedgerTable(SQLModel, registry=_registry):
    """A table of the ledger. The migrations make the tables; the models say what they hold."""


class PlainText(Text):
    """Text that sorts by its bytes: names and keys, whose order must not depend on the server's locale."""

    def __init__(self) -> None:
        super().__init__(collation="C")


class PlainTexts(ARRAY[str]):
    """An array of :class:`PlainText`."""

    def __init__(self) -> None:
        super().__init__(PlainText())


class Moment(TIMESTAMP):
    """A moment by the database's clock, in UTC, with microseconds."""

    def __init__(self) -> None:
        super().__init__(timezone=True)


class StoredJson(JSON):
    """JSON as its text: what was written is read back byte for byte."""


def tables() -> MetaData:
    """All tables of the ledger. Complete once :mod:`ledgerq_shared.models` is imported."""
    return _metadata
