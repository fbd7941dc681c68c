"""How many tasks there are, from the counters: exact without counting."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ledgerq_shared.sql import Statement
from ledgerq_shared.states import State


class StateCount(NamedTuple):
    """How many tasks of a type are in a state."""

    task_type: str
    state: str
    tasks: int


def sum_counts(*, task_type: str | None, queue: str | None) -> Statement[StateCount]:
    """How many tasks there are, by type and state.

    Args:
        task_type: a dotted name; one without dots stands for all types whose last part it is.
    """
    conditions = ["true"]
    if task_type is not None:
        short = "" if "." in task_type else " OR right(task_type, length(%(type)s) + 1) = '.' || %(type)s"
        conditions.append(f"(task_type = %(type)s{short})")
    if queue is not None:
        conditions.append("queue = %(queue)s")
    return Statement(
        "SELECT task_type, state, sum(delta)::bigint FROM task_count "
        f"WHERE {' AND '.join(conditions)} GROUP BY task_type, state HAVING sum(delta) <> 0",
        {"type": task_type, "queue": queue},
        row=StateCount._make,
    )


def in_state(counts: Iterable[StateCount], state: State) -> int:
    """How many tasks are in a state, of all types together."""
    return sum(one.tasks for one in counts if one.state == state)
