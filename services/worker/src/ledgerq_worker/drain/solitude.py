"""Suspects run where the next death tells which of them it was, and harms no other.

Whoever dies with its own pool process is known: there it is enough that no other task is in its claim. When a whole node is
lost, or a pool of threads with its process, everything that ran there is suspect. Such suspects run one at a time on a node,
and one of which the next death would be the last has the node to itself: what is then quarantined is no neighbour.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import IntEnum

from ledgerq_worker.slot.table import SlotTable

#: Between two looks at the other slots, in seconds. Longer than it takes a slot to begin a task after it has looked.
_LOOK_AT_SLOTS_EVERY = 0.02


class Kind(IntEnum):
    """How much solitude a task needs."""

    NONE = 0
    #: No other suspect of a node runs on this one.
    AMONG_SUSPECTS = 1
    #: Nothing else runs on this node.
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
    """One slot's. The slots agree through the slot table, each writing only what it wants itself.

    A suspect says what it wants and then looks twice, with a pause: who began before it was heard is seen by then.
    """

    def __init__(self, table: SlotTable, slot: int) -> None:
        self._table = table
        self._slot = slot

    def is_closed(self) -> bool:
        """Whether ordinary tasks are not to begin here: another slot wants the node to itself."""
        if not self._table.may_have_suspects:
            return False
        wanted = [kind for _, kind, _ in self._table.others(self._slot)]
        if not any(wanted):
            self._table.may_have_suspects = False
        return Kind.WHOLE_NODE in wanted

    def wait_until_open(self) -> None:
        """Until ordinary tasks may begin, or the node is stopping."""
        while self.is_closed() and not self._table.is_stopping:
            self._table.sign(self._slot)
            time.sleep(_LOOK_AT_SLOTS_EVERY)

    def enter(self, kind: Kind, *, is_over: Callable[[], bool]) -> bool:
        """Wait until a suspect may begin. To be followed by :meth:`leave`.

        Args:
            is_over: whether to wait no longer.

        Returns:
            Whether it may; false: the node is stopping.
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
        """The suspect has ended, and its end is recorded."""
        self._table.want_solitude(self._slot, Kind.NONE)

    def _is_in_the_way(self, mine: Kind, other: int, kind: int, is_running: bool) -> bool:
        is_before_me = other < self._slot
        if mine is Kind.WHOLE_NODE:
            return is_running or (kind == Kind.WHOLE_NODE and is_before_me)
        return kind == Kind.WHOLE_NODE or (kind == Kind.AMONG_SUSPECTS and (is_running or is_before_me))
