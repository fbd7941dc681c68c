"""Where the next claim of a queue begins to look.

The head of the ready index is where dead entries pile up while any old transaction is open. A claimer that begins where
its last claim ended steps over them. What is ready but stands before the mark (a retry that came due, a task whose
commit was slow, a difference between clocks) is a *straggler*; a full look now and then finds it within a second, or,
where dead entries make a full look itself take long, within a few.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from ledgerq_shared.statements.claim import ClaimedTask

#: How far before the last claimed entry the next look begins: commits do not become visible in the order of their times.
_MARGIN = timedelta(milliseconds=20)
#: Time from the end of a full look to the next, in seconds; or so many times as long as the look itself took, for the
#: longer looks take the more are marks needed; but no more than this, for a straggler waits for it.
_FULL_LOOK_EVERY = 0.5
_FULL_LOOK_PAUSES = 4.0
_LONGEST_PAUSE = 5.0


class LowWater:
    """The marks of one slot, per queue and priority.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._marks: dict[str, dict[int, datetime]] = {}
        #: When the next full look is due; and since when one is being taken.
        self._full_look_at: dict[str, float] = {}
        self._looking_since: dict[str, float] = {}

    def marks(self, queue: str) -> Mapping[int, datetime]:
        """Per priority, where to begin; empty when it is time for a full look."""
        now = self._clock()
        if now >= self._full_look_at.get(queue, 0.0):
            self._marks.pop(queue, None)
        marks = self._marks.get(queue)
        if not marks:
            self._looking_since[queue] = now
            return {}
        return marks

    def claimed(self, queue: str, tasks: Sequence[ClaimedTask]) -> None:
        """A claim returned these tasks, in the order of the queue."""
        since = self._looking_since.pop(queue, None)
        if since is not None:
            now = self._clock()
            self._full_look_at[queue] = now + min(
                max(_FULL_LOOK_EVERY, _FULL_LOOK_PAUSES * (now - since)), _LONGEST_PAUSE
            )
        marks = self._marks.setdefault(queue, {})
        for priority, ready_at in {task.priority: task.ready_at for task in tasks}.items():  # the last of each
            mark = ready_at - _MARGIN
            marks[priority] = max(mark, marks.get(priority, mark))

    def forget(self, queue: str) -> bool:
        """The last claim came back empty: begin at the head again. False if it did so already."""
        return bool(self._marks.pop(queue, None))
