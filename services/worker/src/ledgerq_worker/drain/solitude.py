"""Lets suspects run so that the next death shows which of them caused it, and harms no other task.

If a task dies with its own pool process, it is known which task it was: then it is enough that no other task is in its
claim. When a whole node is lost, or a pool of threads with its process, every task that ran there is suspect. Such
suspects run one at a time on a node. If the next death would be a task's last, it has the node to itself, so that no
neighbour is quarantined.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import IntEnum

from ledgerq_worker.slot.table import SlotTable

#: Seconds between two looks at the other slots. This is longer than a slot takes to begin a task after its look.
_LOOK_AT_SLOTS_EVERY = 0.02


class Kind(IntEnum):
    """How much solitude a task needs."""

    NONE = 0
    #: No other suspect of a lost node runs on this node.
    AMONG_SUSPECTS = 1
    #: No other task runs on this node.
    WHOLE_NODE = 2


def kind_of(*, worker_deaths: int, is_of_a_node: bool, quarantine_after: int, shares_process: bool) -> Kind:
    """What a suspect needs.

    Args:
        worker_deaths, is_of_a_node: see :func:`ledgerq_shared.statements.recover.read_suspicion`.
        shares_process: the slots of this node are threads of one process.
    """
    if shares_process:
        return Kind.WHOLE_NODE
    if not is_of_a_node:
        return Kind.NONE
    is_last_chance = worker_deaths > 0 and worker_deaths + 1 >= quarantine_after
    return Kind.WHOLE_NODE if is_last_chance else Kind.AMONG_SUSPECTS


class Solitude:
    """The solitude of one slot. The slots agree through the slot table, in which each writes only what it wants itself.

    A suspect notes what it wants and then looks twice, with a pause: by then it sees every task that began before the
    note was seen.
    """

    def __init__(self, table: SlotTable, slot: int) -> None:
        self._table = table
        self._slot = slot

    def is_closed(self) -> bool:
        """Whether ordinary tasks must not begin here, because another slot wants the node to itself."""
        if not self._table.may_have_suspects:
            return False
        wanted = [kind for _, kind, _ in self._table.others(self._slot)]
        if not any(wanted):
            self._table.may_have_suspects = False
        return Kind.WHOLE_NODE in wanted

    def wait_until_open(self) -> None:
        """Wait until ordinary tasks may begin, or the node is stopping."""
        while self.is_closed() and not self._table.is_stopping:
            self._table.sign(self._slot)
            time.sleep(_LOOK_AT_SLOTS_EVERY)

    def enter(self, kind: Kind, *, is_over: Callable[[], bool]) -> bool:
        """Wait until a suspect may begin. Call :meth:`leave` afterwards.

        Args:
            is_over: returns whether to stop waiting.

        Returns:
            Whether it may begin; False: the node is stopping.
        """
        self._table.want_solitude(self._slot, kind)
        quiet = 0
        while kind and quiet < 2 and not is_over():
            self._table.sign(self._slot)
            if self._table.is_stopping:
                self.leave()
                return False
            self._table.may_have_suspects = True
            quiet = (
                0 if any(self._is_in_the_way(kind, *other) for other in self._table.others(self._slot)) else quiet + 1
            )
            time.sleep(_LOOK_AT_SLOTS_EVERY)
        return True

    def leave(self) -> None:
        """Note that the suspect has ended and its end is recorded."""
        self._table.want_solitude(self._slot, Kind.NONE)

    def _is_in_the_way(self, mine: Kind, other: int, kind: int, is_running: bool) -> bool:
        is_before_me = other < self._slot
        if mine is Kind.WHOLE_NODE:
            return is_running or (kind == Kind.WHOLE_NODE and is_before_me)
        return kind == Kind.WHOLE_NODE or (kind == Kind.AMONG_SUSPECTS and (is_running or is_before_me))
