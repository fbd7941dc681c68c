"""Claims that the ledger has and whose slots are done with them.

After a failover that lost the last commits, claims are there again that their slots have recorded. Their worker lives, so
nobody takes them back from it; the slots know nothing of them.

A slot works on one claim at a time. So a claim that the ledger shows before and after a moment in which its slot rests, or
runs something of a later claim, is an orphan. (Unless the slot keeps an end aside: then nothing is known.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ledgerq_shared.statements.recover import HeldClaim
from ledgerq_worker.slot.table import SlotTable


class Orphans:
    """Finds the orphans of one node.

    Args:
        table: says what each slot does.
        every: seconds between two readings of the claims.
        clock: seconds, monotonic.
    """

    def __init__(self, table: SlotTable, every: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._table = table
        self._every = every
        self._clock = clock
        self._read_at: float | None = None
        self._seen: set[HeldClaim] = set()
        #: Of the seen, those of which the slot was done at a moment since.
        self._left: set[HeldClaim] = set()

    @property
    def is_due(self) -> bool:
        """Whether the claims are to be read."""
        return self._read_at is None or self._clock() - self._read_at >= self._every

    def look(self) -> None:
        """See what the slots do at this moment."""
        self._left |= {one for one in self._seen - self._left if self._table.is_done_with(one.slot, one.no)}

    def among(self, claims: Sequence[HeldClaim]) -> set[HeldClaim]:
        """The orphans among the claims that the ledger has shown just now. They are to be read once more before something
        is done about them, in the same transaction.
        """
        orphans = set() if self._table.may_have_asides else self._left.intersection(claims)
        self._read_at, self._seen, self._left = self._clock(), set(claims), set()
        return orphans
