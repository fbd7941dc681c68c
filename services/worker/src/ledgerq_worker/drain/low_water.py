"""Where the next claim of a queue begins to look.

While an old transaction is open, dead entries gather at the head of the ready index. A claim that begins where the
slot's last claim ended skips them. A ready task that stands before this mark (a retry that came due, a task whose
commit was slow, a difference between clocks) is a *straggler*. A full look now and then finds it within a second, or
within a few seconds if dead entries make the full look itself take long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from ledgerq_shared.statements.claim import ClaimedTask

#: How far before the last claimed entry the next look begins, because commits do not become visible in the order of
#: their times.
_MARGIN = timedelta(milliseconds=20)
#: Seconds from the end of a full look to the next one; or this many times as long as the look itself took, because
#: marks are needed the more the longer looks take; but at most this many seconds, because a straggler waits for the
#: look.
_FULL_LOOK_EVERY = 0.5
_FULL_LOOK_PAUSES = 4.0
_LONGEST_PAUSE = 5.0


class LowWater:
    """The marks of one slot, for each queue and priority.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._marks: dict[str, dict[int, datetime]] = {}
        #: When the next full look is due; and when the present one began.
        self._full_look_at: dict[str, float] = {}
        self._looking_since: dict[str, float] = {}

    def marks(self, queue: str) -> Mapping[int, datetime]:
        """Where to begin, for each priority; empty if it is time for a full look."""
        now = self._clock()
        if now >= self._full_look_at.get(queue, 0.0):
            self._marks.pop(queue, None)
        marks = self._marks.get(queue)
        if not marks:
            self._looking_since[queue] = now
            return {}
        return marks

    def claimed(self, queue: str, tasks: Sequence[ClaimedTask]) -> None:
        """Note the tasks that a claim returned, in the order of the queue."""
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
        """Begin at the head again, because the last claim came back empty. Returns False if it began there already."""
        return bool(self._marks.pop(queue, None))
