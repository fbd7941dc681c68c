"""Cancel one task in a transaction, wherever it is."""

from __future__ import annotations

from typing import NamedTuple

from ledgerq_shared.errors import LedgerUnavailable, TaskIsFinal, TaskNotFound
from ledgerq_shared.languages import say
from ledgerq_shared.postgres.database import Cursor, execute
from ledgerq_shared.statements.cancel import read_end, request_cancel, revoke_waiting
from ledgerq_shared.states import State

#: How often to look for the task. Each further look means that it went from one place to another between two
#: statements.
_LOOKS = 50


class Cancelled(NamedTuple):
    """The outcome of a cancel."""

    #: REVOKED: it will never run. STARTED: it runs, and was asked to end. None: a worker has claimed it and is asked
    #: not to begin it; it is not known yet whether it has begun (:func:`~ledgerq_shared.statements.cancel.read_told`).
    state: State | None
    terminate: bool


def cancel(
    cursor: Cursor,
    task_id: str,
    *,
    actor: str,
    message: str | None = None,
    terminate: bool = False,
    signal: int | None = None,
    is_repeated: bool = False,
) -> Cancelled:
    """Cancel in the caller's transaction, at PostgreSQL's default isolation level, because each look has to see what
    others have committed.

    Args:
        signal: as in :func:`~ledgerq_shared.statements.cancel.request_cancel`.
        is_repeated: the outcome of an earlier try is unknown, so finding the task cancelled is a success.

    Raises:
        TaskNotFound, TaskIsFinal
    """
    for _ in range(_LOOKS):
        if execute(cursor, revoke_waiting([task_id], actor=actor, message=message, terminate=terminate)):
            return Cancelled(State.REVOKED, terminate)
        asked = execute(
            cursor, request_cancel(task_id, actor=actor, message=message, terminate=terminate, signal=signal)
        )
        if asked:
            [(state, may_terminate)] = asked
            return Cancelled(State.STARTED if state == State.STARTED else None, may_terminate)
        ends = execute(cursor, read_end(task_id))
        if not ends:
            raise TaskNotFound(say("No task has the id {task_id}.", task_id=task_id))
        [end] = ends
        if end.is_final and is_repeated and end.is_cancelled and end.state == State.REVOKED:
            return Cancelled(State.REVOKED, terminate)
        if end.is_final:
            raise TaskIsFinal(say("The task has already ended as {state}.", state=end.state), task_status=end.state)
    raise LedgerUnavailable(say("The task moves too fast to be cancelled just now; try again."))
