"""Decides how many workers queues need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ledgerq_api.ledger import Ledger
from ledgerq_api.scaling.schemas import Scaling
from ledgerq_shared.statements.read_scaling import QueueLoad, read_load


@dataclass(frozen=True, slots=True)
class Target:
    """What the workers should achieve."""

    #: Seconds within which a backlog should be drained.
    drain_seconds: float
    #: The run time of a task in seconds, if none has run yet.
    run_seconds: float
    #: Slots of a worker; None: as many as the queue's latest worker has, or one.
    slots_per_worker: int | None = None


class ScalingService:
    """Answers autoscalers."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def demand(self, queues: Sequence[str], target: Target) -> Scaling:
        """The demand of all ``queues`` together; a queue that was never used has none."""
        return demand(await self._ledger.fetch(read_load(queues)), target)


def demand(loads: Sequence[QueueLoad], target: Target) -> Scaling:
    """The demand of queues that the same workers serve."""
    slots = math.ceil(sum(_slots_needed(load, target) for load in loads))
    each = target.slots_per_worker or max((load.slots_per_worker or 1 for load in loads), default=1)
    work = sum(load.backlog * _run_seconds(load, target) for load in loads)
    # A worker that serves several of the queues is in the sum of each of them, so the largest sum is nearest to the
    # truth.
    live = max((load.live_slots for load in loads), default=0)
    return Scaling(
        backlog=sum(load.backlog for load in loads),
        running=sum(load.running for load in loads),
        oldest_seconds=round(max((load.oldest_seconds for load in loads), default=0.0), 3),
        drain_seconds=round(work / max(live, 1), 3),
        desired_workers=math.ceil(slots / each),
    )


def _slots_needed(load: QueueLoad, target: Target) -> float:
    """Slots that drain the backlog in time, plus busy slots that will stay busy; never fewer than the busy slots.

    A backlog of five tasks needs five slots at most, however long they take.
    """
    if load.is_paused:
        return load.busy_slots
    run_seconds = _run_seconds(load, target)
    for_backlog = min(load.backlog, load.backlog * run_seconds / target.drain_seconds)
    still_busy = load.busy_slots * min(1.0, run_seconds / target.drain_seconds)
    return max(load.busy_slots, still_busy + for_backlog)


def _run_seconds(load: QueueLoad, target: Target) -> float:
    return target.run_seconds if load.run_seconds is None else load.run_seconds
