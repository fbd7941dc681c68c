"""The six states of a task (Celery's own words) and every transition that is legal.

The table is data: the documentation draws it, and tests hold the histories of the ledgers that they make against it. The
statements name their states themselves: each changes only tasks that it finds in a state from which its step may begin.

    PENDING ──begin──▶ STARTED ──succeed──▶ SUCCESS
       ▲ │                │ │ └──fail─────▶ FAILURE ──retry by a person──▶ PENDING
       │ └──cancel──┐     │ └──retry──▶ RETRY ──begin──▶ STARTED
       │            ▼     │               │
       │         REVOKED ◀┴──── cancel ───┘     REVOKED ──retry by a person──▶ PENDING
       └──── worker lost (recovered), or replaced by another task ── STARTED
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """A task's state, as stored in ``task.state`` and sent on the wire."""

    PENDING = "PENDING"
    STARTED = "STARTED"
    RETRY = "RETRY"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    REVOKED = "REVOKED"


#: States in which nothing happens by itself any more; exactly these have ``completed_at``.
FINAL = frozenset({State.SUCCESS, State.FAILURE, State.REVOKED})

#: States from which a run may begin: the first attempt, or the one after a retry's delay.
STARTABLE = frozenset({State.PENDING, State.RETRY})

#: ``(from, to)`` -> the kinds of event that record the step, by what led to it. A quick task's SUCCESS is written in one
#: statement, but its history still shows the steps through STARTED (see :mod:`ledgerq_shared.events`).
TRANSITIONS: dict[tuple[State, State], tuple[str, ...]] = {
    (State.PENDING, State.STARTED): ("started",),
    (State.RETRY, State.STARTED): ("started",),
    (State.STARTED, State.SUCCESS): ("succeeded",),
    (State.STARTED, State.FAILURE): ("failed",),
    (State.STARTED, State.RETRY): ("retried",),
    (State.STARTED, State.PENDING): ("recovered", "replaced"),
    (State.PENDING, State.REVOKED): ("revoked",),
    (State.RETRY, State.REVOKED): ("revoked",),
    (State.STARTED, State.REVOKED): ("revoked",),
    # Quarantine and `on_worker_lost = fail` end a task that died before its start was ever written.
    (State.PENDING, State.FAILURE): ("failed",),
    (State.RETRY, State.FAILURE): ("failed",),
    (State.FAILURE, State.PENDING): ("resubmitted",),
    (State.REVOKED, State.PENDING): ("resubmitted",),
}


def is_legal(before: State, after: State) -> bool:
    """Whether a task may go from ``before`` to ``after`` in one step."""
    return (before, after) in TRANSITIONS
