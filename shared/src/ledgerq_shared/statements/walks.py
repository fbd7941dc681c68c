"""Which way the tasks of a filter are found: pure decisions, of which ``read_list`` makes SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import NamedTuple

from ledgerq_shared.statements.read_counts import StateCount, in_state
from ledgerq_shared.states import State

#: States that have an index of their own: few tasks are in them.
RARE = frozenset({State.RETRY, State.FAILURE, State.REVOKED})


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks. ``None`` everywhere: all of them."""

    #: Full dotted names, any of which will do; see :func:`~ledgerq_shared.statements.read_counts.sum_counts` for how a short
    #: name becomes full ones.
    task_types: Sequence[str] | None = None
    state: State | None = None
    queue: str | None = None
    tag: str | None = None
    submitted_after: datetime | None = None
    submitted_before: datetime | None = None
    #: Only ids below this one: where the last page ended.
    before_id: str | None = None

    @property
    def is_counted(self) -> bool:
        """Whether the counters answer "how many" exactly."""
        return self.tag is None and self.submitted_after is None and self.submitted_before is None


class Along(Enum):
    """What is walked along, from its newest task on."""

    #: The primary key, past whatever the filter does not want.
    IDS = "t.id"
    #: The index by type and id.
    TYPES = "t.task_type"
    #: The index by queue and id.
    QUEUES = "t.queue"
    #: The index by state and id, of RETRY, FAILURE and REVOKED.
    STATES = "t.exception_state"
    #: ``task_success``: the ids of all that succeeded.
    SUCCESSES = "task_success"
    #: ``task_tag``: the ids of all that have the tag.
    TAGS = "task_tag"
    #: Nothing: the newest of ``ready`` and ``held``, all of ``claim``; most of them pass.
    UNFINISHED = "candidates"
    #: ``ready`` and ``held``, each by itself, and all of ``claim``: any number of them may not pass.
    UNFINISHED_IN_ORDER = "unfinished"


class Walk(NamedTuple):
    """How the tasks of a filter are found."""

    along: Along
    #: Each of several types is walked by itself, and the newest of all are taken: no index has several in one order.
    each_type: bool = False


def walk_of(filter_: TaskFilter, *, along_successes: bool = True) -> Walk:
    """The walk that passes over least.

    An index by type, queue or state serves a filter that asks for just this; one that asks for two of them walks along
    the ids.

    Args:
        along_successes: where :func:`goes_either_way`, whether to look through all that succeeded rather than through all
            of that type or queue: :func:`is_shorter_along_successes`.
    """
    if filter_.state in {State.PENDING, State.STARTED}:
        return Walk(Along.UNFINISHED if filter_.is_counted else Along.UNFINISHED_IN_ORDER)
    if filter_.tag is not None:
        return Walk(Along.TAGS)
    asked = {
        Along.TYPES: filter_.task_types is not None,
        Along.QUEUES: filter_.queue is not None,
        Along.STATES: filter_.state in RARE,
    }
    served = [along for along, is_asked in asked.items() if is_asked]
    if filter_.state is State.SUCCESS and (along_successes or not served):
        return Walk(Along.SUCCESSES)
    is_served = len(served) == 1 and filter_.state is not State.SUCCESS
    return Walk(served[0] if is_served else Along.IDS, each_type=len(filter_.task_types or ()) > 1)


def goes_either_way(filter_: TaskFilter) -> bool:
    """Whether the counters must say which walk is the shorter one: for SUCCESS of a type or queue."""
    return (
        filter_.state is State.SUCCESS and filter_.tag is None and (filter_.task_types, filter_.queue) != (None, None)
    )


def is_shorter_along_successes(counts: Sequence[StateCount], *, successes: int, limit: int) -> bool:
    """Whether a walk along all successes is shorter than one along all tasks of the filter's type or queue, because there
    are fewer other tasks to pass over.

    Among the tasks of a type or queue, the others may be one long row of waiting tasks, which are the newest of all.
    Among the successes, the others are assumed to be spread evenly.

    Args:
        counts: the counts of the filter's type or queue.
        successes: how many tasks of all types and queues have succeeded.
        limit: after how many tasks of the filter the walk ends.
    """
    wanted = in_state(counts, State.SUCCESS)
    others = sum(one.tasks for one in counts) - wanted
    return wanted > 0 and limit * (successes - wanted) / wanted < others
