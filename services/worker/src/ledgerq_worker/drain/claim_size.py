"""How much to claim at once: about 50 ms of work by the measured run times, or one task if nothing is known.

This is pure policy: the drain measures and asks, and the claim statement applies the answer.
"""

from __future__ import annotations

#: The weight of a new measurement. A slow run counts fully at once, because a long task among short ones must not be
#: followed by a large claim.
_WEIGHT = 0.2
_SURPRISE = 4.0


class ClaimSize:
    """Expected run time of each task type, and how many tasks of a queue are worth claiming together.

    Args:
        budget: expected run time that one claim may hold, in seconds.
        limit: how many tasks one claim may hold at most.
    """

    def __init__(self, *, budget: float, limit: int) -> None:
        self.budget = budget
        self._limit = limit
        self._limit_of_queue: dict[str, int] = {}
        #: Expected run time by task type, in seconds.
        self.cost_of_type: dict[str, float] = {}

    def has_met(self, task_type: str) -> bool:
        """Whether a task of this type has ended in this process."""
        return task_type in self.cost_of_type

    def measured(self, task_type: str, seconds: float) -> None:
        """Note that a task of this type took this long."""
        known = self.cost_of_type.get(task_type)
        if known is None or seconds > known * _SURPRISE:
            self.cost_of_type[task_type] = max(seconds, 1e-6)
        else:
            self.cost_of_type[task_type] = known + _WEIGHT * (seconds - known)

    def limit_for(self, queue: str) -> int:
        """How many tasks to claim from ``queue`` now, at most."""
        return self._limit_of_queue.get(queue, 1)

    def claim_ran(self, queue: str, count: int, seconds: float) -> None:
        """Note that a claim of ``count`` tasks of ``queue`` took ``seconds``: the size grows by doubling and falls at
        once.
        """
        limit = self.limit_for(queue)
        if seconds > self.budget:
            limit = max(1, int(count * self.budget / seconds))
        elif count >= limit and seconds <= self.budget / 2:
            limit = min(self._limit, limit * 2)
        self._limit_of_queue[queue] = limit
