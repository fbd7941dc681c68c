"""What the ledger should hold, in plain Python: no SQL, no times, no concurrency. Read this to know what LedgerQ promises.

Every method is one thing that somebody does; it changes the model and returns what the caller should be told.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from ledgerq_shared.states import FINAL, State

#: Worker deaths after which a task is quarantined.
QUARANTINE_AFTER = 3

READY, HELD, CLAIM, NOWHERE = "ready", "held", "claim", ""


@dataclass(eq=False)
class Task:
    """One task. ``place`` is where it waits or who holds it."""

    id: str
    queue: str
    priority: int = 5
    key: str | None = None
    runs_once: bool = False
    #: None: it never expires; else whether its expiry has passed.
    expired: bool | None = None
    state: State = State.PENDING
    place: str = READY
    #: Held: whether its time has come.
    is_due: bool = False
    alone: bool = False
    attempt: int = 0
    retries: int = 0
    deaths: int = 0
    is_cancelled: bool = False
    claim_no: int | None = None
    #: Since when it might have begun: its place among the ready ones of its priority. Counts what happens.
    place_in_queue: int = 0

    @property
    def waits(self) -> bool:
        """Nobody has it."""
        return self.place in (READY, HELD)

    def seen(self) -> tuple[object, ...]:
        """What is compared with the ledger."""
        alone = self.alone if self.waits else None
        return (
            str(self.state), self.queue, self.attempt, self.retries, self.deaths, self.is_cancelled, self.place, alone,
            self.claim_no,
        )  # fmt: skip

    def move(self, place: str, *, alone: bool = False, is_due: bool = False) -> None:
        """Put it somewhere else; it leaves any claim."""
        self.place, self.alone, self.is_due, self.claim_no = place, alone, is_due, None


@dataclass
class Model:
    """All tasks, who holds which unique key, and which queues are paused."""

    tasks: dict[str, Task] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    #: Counts submits, retries and times that come: whatever gives tasks a new place in their queue.
    moments: int = 0
    #: Idempotency-Key → the request that it belongs to, and what was answered.
    answers: dict[str, tuple[dict[str, Any], Any]] = field(default_factory=dict)

    #: What `explain` says of where a task stands. It says more about workers and what is before it.
    EXPLAINED: ClassVar[set[str]] = {
        "ended", "running", "claimed", "cancel_requested", "eta", "retry", "due", "queue_paused", "alone",
    }  # fmt: skip

    def explain(self, task: Task) -> set[str]:
        """Why it does not run, or that it does."""
        if task.place == CLAIM:
            said = {"running" if task.state is State.STARTED else "claimed"}
            return said | ({"cancel_requested"} if task.is_cancelled else set())
        if not task.waits:
            return {"ended"}
        said = {"queue_paused"} if task.queue in self.paused else set()
        if task.place == HELD:
            return said | {"due" if task.is_due else "retry" if task.state is State.RETRY else "eta"}
        return said | ({"alone"} if task.alone else set())

    def next_moment(self) -> None:
        """Something happens that gives tasks a new place in their queue."""
        self.moments += 1

    def submit(self, task: Task, policy: str) -> str:
        """``accepted``, ``refused``, or the id of the task that is returned instead. A batch is one moment."""
        task.place_in_queue = self.moments
        if task.key is not None and (holder_id := self.keys.get(task.key)) is not None:
            holder = self.tasks[holder_id]
            if policy == "return_existing":
                return holder_id
            if policy == "reject" or not holder.waits:
                return "refused"
            self.end(holder, State.REVOKED)
        self.tasks[task.id] = task
        if task.key is not None:
            self.keys[task.key] = task.id
        return "accepted"

    def claimable(self, queue: str) -> list[Task]:
        """What a claim may take, in its order: the most urgent priority first, then who has waited longest."""
        ready = [task for task in self.tasks.values() if task.place == READY and task.queue == queue]
        ready.sort(key=lambda task: (-task.priority, task.place_in_queue, task.id))
        return [] if queue in self.paused else ready

    def claimed(self, task: Task, claim_no: int) -> None:
        """A worker has it. A suspect stays one until it has ended its attempt."""
        task.move(CLAIM, alone=task.alone)
        task.claim_no = claim_no

    def begin(self, task: Task) -> bool:
        """Its code runs; only once per claim."""
        if task.state is State.STARTED:
            return False
        task.state, task.attempt = State.STARTED, task.attempt + 1
        return True

    def end(self, task: Task, state: State, *, has_run: bool = False) -> None:
        """It is over. ``has_run``: an attempt is recorded together with the end if it was not before."""
        if has_run:
            self.begin(task)
        task.state = state
        task.move(NOWHERE)
        if task.key is not None and self.keys.get(task.key) == task.id:
            del self.keys[task.key]

    def goes_on(self, task: Task, state: State, queue: str, *, waits: bool) -> None:
        """It goes on later: a retry, or a replacement."""
        self.begin(task)
        task.state, task.queue = state, queue
        task.retries += state is State.RETRY
        self.next_moment()
        task.place_in_queue = self.moments
        task.move(HELD if waits else READY, alone=task.deaths > 0)
        if task.is_cancelled:
            self.end(task, State.REVOKED)

    def hand_back(self, task: Task) -> None:
        """It had not begun: as if nothing had happened, at its old place."""
        task.move(READY, alone=task.deaths > 0 or task.alone)
        if task.is_cancelled:
            self.end(task, State.REVOKED)

    def recover(self, task: Task, *, is_suspect: bool, is_known: bool, charge: bool) -> None:
        """Its worker, or its slot, is dead."""
        had_begun = task.state is State.STARTED or is_suspect
        is_charged = had_begun and charge
        if had_begun:
            self.begin(task)
        task.deaths += is_charged
        if task.is_cancelled:
            self.end(task, State.REVOKED)
        elif had_begun and (task.runs_once or (is_charged and task.deaths >= QUARANTINE_AFTER)):
            self.end(task, State.FAILURE)
        else:
            task.state = State.PENDING if had_begun else task.state
            task.move(READY, alone=task.deaths > 0 or task.alone or not is_known)

    def cancel(self, task: Task) -> State | None:
        """REVOKED, or the state of a task that a worker has been asked to end; None: it has ended before."""
        if task.state in FINAL:
            return None
        task.is_cancelled = True
        if task.waits:
            self.end(task, State.REVOKED)
        return task.state

    def resubmit(self, task: Task) -> bool:
        """A person runs it again. False: it has not failed, or another task has its key now."""
        if task.state not in (State.FAILURE, State.REVOKED):
            return False
        if task.key is not None and self.keys.get(task.key, task.id) != task.id:
            return False
        if task.key is not None:
            self.keys[task.key] = task.id
        task.state, task.is_cancelled, task.retries = State.PENDING, False, 0
        task.expired = None if task.expired else task.expired
        self.next_moment()
        task.place_in_queue = self.moments
        task.move(READY, alone=task.deaths > 0)
        task.deaths = 0
        return True

    def promote(self) -> int:
        """What waited long enough becomes ready."""
        due = [task for task in self.tasks.values() if task.place == HELD and task.is_due]
        for task in due:
            task.move(READY, alone=task.alone)
        return len(due)

    def expire(self) -> int:
        """What waits beyond its expiry ends."""
        late = [task for task in self.tasks.values() if task.waits and task.expired]
        for task in late:
            self.end(task, State.REVOKED)
        return len(late)
