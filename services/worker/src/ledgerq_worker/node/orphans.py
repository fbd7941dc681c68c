"""Orphans: claims that the ledger has although their slots are done with them.

After a failover that lost the last commits, claims may be there again although their slots have recorded them. Their
worker lives, so nobody takes them back; and the slots do not know of them any more.

A slot works on one claim at a time. So a claim is an orphan if the ledger shows it before and after a moment in which
its slot rests or runs a task of a later claim. (If the slot keeps an end aside, this cannot be told.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ledgerq_shared.statements.recover import HeldClaim
from ledgerq_worker.slot.table import SlotTable


class Orphans:
    """Finds the orphans of one node.

    Args:
        table: shows what each slot does.
        every: seconds between two readings of the claims.
        clock: seconds, monotonic.
    """

    def __init__(self, table: SlotTable, every: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._table = table
        self._every = every
        self._clock = clock
        self._read_at: float | None = None
        self._seen: set[HeldClaim] = set()
        #: Those of the seen claims with which their slot was done at some moment since then.
        self._left: set[HeldClaim] = set()

    @property
    def is_due(self) -> bool:
        """Whether it is time to read the claims."""
        return self._read_at is None or self._clock() - self._read_at >= self._every

    def look(self) -> None:
        """Note what the slots do at this moment."""
        self._left |= {one for one in self._seen - self._left if self._table.is_done_with(one.slot, one.no)}

    def among(self, claims: Sequence[HeldClaim]) -> set[HeldClaim]:
        """The orphans among the claims that the ledger has just shown. Read them once more before you act on them, in
        the same transaction.
        """
        orphans = set() if self._table.may_have_asides else self._left.intersection(claims)
        self._read_at, self._seen, self._left = self._clock(), set(claims), set()
        return orphans
