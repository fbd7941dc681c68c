"""The six states of a task (Celery's own words) and every transition that is legal.

The table is data: the documentation draws it, and tests compare the histories of their ledgers with it. The statements
do not use it; each names its states itself, and changes only tasks that it finds in a state from which its step may
begin.

    PENDING ──begin──▶ STARTED ──succeed──▶ SUCCESS
       ▲ │                │ │ └──fail─────▶ FAILURE ──retry by a person──▶ PENDING
       │ └──cancel──┐     │ └──retry──▶ RETRY ──begin──▶ STARTED
       │            ▼     │               │
       │         REVOKED ◀┴──── cancel ───┘     REVOKED ──retry by a person──▶ PENDING
       └──── worker lost (recovered), or replaced by another task ── STARTED
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from ledgerq_shared.events import EventKind


class State(StrEnum):
    """A task's state, as stored in ``task.state`` and sent on the wire."""

    PENDING = "PENDING", "Accepted and waiting: for a worker, for its ETA, or to run again after its worker died."
    STARTED = "STARTED", "Its code is running. `started_at` is when the code began, not when a worker took the task."
    RETRY = "RETRY", "An attempt ended in a retry; the next one is due at `run_at`."
    SUCCESS = "SUCCESS", "Its code returned; `result` is what it returned."
    FAILURE = "FAILURE", "Its code raised, or must not run again; `error` says why."
    REVOKED = "REVOKED", "It was cancelled, or not begun before it expired."

    #: A sentence for people; the reference is made from it.
    meaning: str

    def __new__(cls, word: str, meaning: str = "") -> Self:
        """A member: its word on the wire, and what it means. (The defaults are for look-ups by the word alone.)"""
        member = str.__new__(cls, word)
        member._value_ = word
        member.meaning = meaning
        return member


#: States in which nothing more happens by itself; exactly these have ``completed_at``.
FINAL = frozenset({State.SUCCESS, State.FAILURE, State.REVOKED})

#: States from which a run may begin: the first attempt, or the one after a retry's delay.
STARTABLE = frozenset({State.PENDING, State.RETRY})

#: ``(from, to)`` -> the kinds of event that record the step; there is one for each cause. A quick task's SUCCESS is
#: written in one statement, but its history still shows the steps through STARTED (see :mod:`ledgerq_shared.events`).
TRANSITIONS: dict[tuple[State, State], tuple[EventKind, ...]] = {
    (State.PENDING, State.STARTED): (EventKind.STARTED,),
    (State.RETRY, State.STARTED): (EventKind.STARTED,),
    (State.STARTED, State.SUCCESS): (EventKind.SUCCEEDED,),
    (State.STARTED, State.FAILURE): (EventKind.FAILED,),
    (State.STARTED, State.RETRY): (EventKind.RETRIED,),
    (State.STARTED, State.PENDING): (EventKind.RECOVERED, EventKind.REPLACED),
    (State.PENDING, State.REVOKED): (EventKind.REVOKED,),
    (State.RETRY, State.REVOKED): (EventKind.REVOKED,),
    (State.STARTED, State.REVOKED): (EventKind.REVOKED,),
    # Quarantine and `on_worker_lost = fail` end a task that died before its start was ever written.
    (State.PENDING, State.FAILURE): (EventKind.FAILED,),
    (State.RETRY, State.FAILURE): (EventKind.FAILED,),
    (State.FAILURE, State.PENDING): (EventKind.RESUBMITTED,),
    (State.REVOKED, State.PENDING): (EventKind.RESUBMITTED,),
}
