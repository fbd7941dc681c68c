"""Actions on a task that exists: cancel it, run it again, or explain why it does not run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from ledgerq_api.auth.callers import Caller
from ledgerq_api.changing import change
from ledgerq_api.ledger import Ledger
from ledgerq_api.tasks import action_schemas as schemas
from ledgerq_api.tasks.explaining import FailingStore, explain
from ledgerq_api.tasks.reading import own_id, the_one
from ledgerq_api.tasks.reruns import rerun_of
from ledgerq_api.tasks.submitting import Submitting
from ledgerq_shared.errors import DuplicateTask, TaskIsFinal, TaskIsNotFinal
from ledgerq_shared.languages import Locale, say
from ledgerq_shared.postgres.database import Cursor, execute
from ledgerq_shared.statements.cancel import TaskEnd, read_end, read_told
from ledgerq_shared.statements.read_explain import read_circumstances
from ledgerq_shared.statements.resubmit import read_repeatable, resubmit
from ledgerq_shared.statements.unique import retake_key
from ledgerq_shared.states import STARTABLE, State
from ledgerq_shared.tasks.cancelling import Cancelled, cancel
from ledgerq_shared.tasks.submitting import Existing
from ledgerq_shared.tasks.waking import Waker

#: How long a cancel waits for the worker that has claimed the task, in seconds: its node renews its lease every second.
TOLD_WITHIN = 2.0
#: How long it waits before its second look, and how long for a task that may have begun just before its node heard of
#: the cancel; in seconds.
_FIRST_LOOK = 0.01
_LAST_LOOK = 0.1
_BEGUN_WITHIN = 0.1


class TaskActions:
    """Cancels, repeats and explains tasks. ``actor`` is the caller, for the event log.

    Args:
        failing: returns which failures of the stores keep tasks from running, and since when.
    """

    def __init__(
        self,
        ledger: Ledger,
        submitting: Submitting,
        waker: Waker,
        failing: Callable[[], Awaitable[Mapping[FailingStore, datetime]]],
    ) -> None:
        self._failing = failing
        self._ledger = ledger
        self._submitting = submitting
        self._waker = waker

    async def cancel(self, task_id: str, body: schemas.CancelBody, *, actor: str) -> schemas.CancelAnswer:
        """Cancel a task that has not ended.

        Raises:
            TaskNotFound, TaskIsFinal
        """
        task_id = await self._own_id(task_id)

        def work(cursor: Cursor, is_repeated: bool) -> Cancelled:
            return cancel(
                cursor,
                task_id,
                actor=actor,
                message=body.reason,
                terminate=body.terminate,
                is_repeated=is_repeated,
            )

        done = await change(self._ledger, work)
        state = done.state or await self._told(task_id)
        return schemas.CancelAnswer(task_id=task_id, status=state, cancel_requested=True, terminate=done.terminate)

    async def _told(self, task_id: str) -> State:
        """The state of a cancelled task that a worker had claimed, once it is known whether it has begun.

        Within about a tenth of a second, a claimed task begins, or is handed back and so revoked. If it would begin
        later, its worker has by then heard of the cancel, when it renewed its lease. PENDING or RETRY means that the
        worker has heard of the cancel and has not begun the task, or that it was silent for so long that nobody can
        tell.

        Raises:
            TaskIsFinal: it ended by itself meanwhile.
        """
        deadline = time.monotonic() + TOLD_WITHIN
        since, pause, has_heard = None, _FIRST_LOOK, False
        while True:
            told = await self._ledger.fetch(read_told(task_id, since=since))
            state, is_final, hears, clock = the_one(task_id, told)
            if is_final and state != State.REVOKED:
                raise TaskIsFinal(say("The task has already ended as {state}.", state=state), task_status=state)
            if state not in STARTABLE or has_heard or time.monotonic() > deadline:
                return State(state)
            since, has_heard = since or clock, hears
            # A worker that has just heard of it may have begun the task just before, and reports that a moment later.
            await asyncio.sleep(_BEGUN_WITHIN if has_heard else pause)
            pause = min(2 * pause, _LAST_LOOK)

    async def retry(self, task_id: str, body: schemas.RetryBody, *, actor: str) -> schemas.RetryAnswer:
        """Run a failed or revoked task again, under its id.

        Raises:
            TaskNotFound, TaskIsNotFinal, TaskIsFinal: it succeeded.
            DuplicateTask: another task has its unique key now.
        """
        task_id = await self._own_id(task_id)

        def work(cursor: Cursor, is_repeated: bool) -> str | None:
            rows = execute(cursor, resubmit(task_id, actor=actor, message=body.reason))
            if not rows:
                _check_retried(the_one(task_id, execute(cursor, read_end(task_id))), is_repeated=is_repeated)
                return None
            for (holder,) in execute(cursor, retake_key(task_id)):
                if holder != task_id:
                    raise DuplicateTask(
                        say("Another task has the unique_key of this one, so it is not run again."), task_id=holder
                    )
            [(queue,)] = rows
            return queue

        queue = await change(self._ledger, work)
        if queue is not None:
            self._waker.wake({queue: 1})
        return schemas.RetryAnswer(task_id=task_id, status=State.PENDING)

    async def rerun(
        self, task_id: str, body: Any, *, caller: Caller, key: str | None, encoded: bytes
    ) -> schemas.RerunAnswer:
        """Submit a task like an earlier one.

        Args:
            body: a ``RerunBody``.
            key: an Idempotency-Key; with the same ``encoded`` body the first answer is given again.

        Raises:
            TaskNotFound, and what a submit raises
            TaskIsFinal: its message was refused.
        """
        task_id = await self._own_id(task_id)
        earlier = the_one(task_id, await self._ledger.fetch(read_repeatable(task_id)))
        if earlier.is_refused:
            raise TaskIsFinal(_REFUSED, task_status=State.FAILURE)
        make = partial(rerun_of, task_id, earlier, body, caller=caller)
        outcome = await self._submitting.submit(make, key=key, encoded=f"rerun {task_id} ".encode() + encoded)
        if isinstance(outcome, Existing):  # the edits have a unique key, and another task holds it
            return schemas.RerunAnswer(task_id=str(outcome.id), status=outcome.state, rerun_of=task_id)
        return schemas.RerunAnswer(task_id=str(outcome), status=State.PENDING, rerun_of=task_id)

    async def explain(self, task_id: str, language: Locale) -> schemas.Explanation:
        """Why the task is not running, or the fact that it runs.

        Raises:
            TaskNotFound
        """
        task_id = await self._own_id(task_id)
        seen = the_one(task_id, await self._ledger.fetch(read_circumstances(task_id)))
        failing = await self._failing() if seen.completed_at is None else {}
        return schemas.Explanation(task_id=task_id, status=State(seen.state), findings=explain(seen, language, failing))

    async def _own_id(self, task_id: str) -> str:
        """The task's own id; ``task_id`` may also be a Celery producer's id.

        Raises:
            TaskNotFound
        """
        return await self._ledger.run(lambda cursor: own_id(cursor, task_id))


_REFUSED = say("The task's message could not be read, so nobody knows its arguments: have it sent again.")


def _check_retried(end: TaskEnd, *, is_repeated: bool) -> None:
    """Raise the reason why a task was not resubmitted, unless an earlier try has resubmitted it."""
    if is_repeated and not end.is_final:
        return
    if not end.is_final:
        raise TaskIsNotFinal(say("The task has not ended yet: it is {state}.", state=end.state), task_status=end.state)
    if end.state != State.SUCCESS:
        raise TaskIsFinal(_REFUSED, task_status=end.state)
    raise TaskIsFinal(
        say("The task has succeeded, so it is not run again under its id; see POST /tasks/{task_id}/rerun."),
        task_status=end.state,
    )
