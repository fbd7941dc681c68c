"""What an error of a store asks its caller to do: one of four words, for every store."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Fault(StrEnum):
    """Whose fault an error is, which decides how to handle it."""

    #: Nobody's: the same work may well succeed when it is done again, a moment later, over the same connection.
    REPEAT = "repeat"
    #: The connection's: its state does not pass. The same work is done again over another connection.
    RECONNECT = "reconnect"
    #: The item's: the store cannot keep this item, however often it is tried. All others are to be kept.
    REFUSE = "refuse this one item"
    #: Ours, or the operator's: it concerns every item, and stays until somebody corrects it. Nothing is thrown away.
    MISTAKE = "a mistake of ours"


class Row(NamedTuple):
    """One line of a store's table."""

    #: How the store names the error.
    code: str
    fault: Fault
    reason: str
