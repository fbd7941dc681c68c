"""Runs one claimed task through Celery's own tracer, or through its shorter equivalent, and returns how it ended.

The runner always returns, whatever the task does: an exception that escapes the tracer (``SystemExit``, ``Reject``, …)
ends the task, but never the rest of its batch.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from signal import SIGTERM
from typing import Any

from celery import Celery
from celery.exceptions import Reject, Retry

from ledgerq_shared.process.tracing import tracer
from ledgerq_shared.statements.claim import ClaimedTask
from ledgerq_shared.states import State
from ledgerq_worker.catalogue.wrappers import has_own_call
from ledgerq_worker.celery.messages import request_of
from ledgerq_worker.celery.retries import again
from ledgerq_worker.celery.seams.lean_tracer import LeanTracer, is_anybody_listening, lean_tracer_of
from ledgerq_worker.celery.seams.tracer import balanced_stacks, tracer_of
from ledgerq_worker.drain.recorder import Recorder
from ledgerq_worker.drain.spans import span_of
from ledgerq_worker.slot import forks, legs, terminating, termination
from ledgerq_worker.slot.composure import Composure
from ledgerq_worker.slot.encoding import decode, describe_error, original_of, to_json
from ledgerq_worker.slot.ends import Failed, GoesOn, Revoked, Succeeded
from ledgerq_worker.slot.legs import Leg, TaskCancelled
from ledgerq_worker.slot.limits import SoftLimit
from ledgerq_worker.slot.table import SlotTable

#: An enum's own look-up costs five times as much, and this one is made for each task.
_STATES = {state.value: state for state in State}
_UNLIMITED: contextlib.AbstractContextManager[object] = contextlib.nullcontext()


class Runner:
    """Runs tasks in one slot.

    Args:
        app: the Celery application that knows the tasks.
        table, slot: the table in which the running task is noted, and this slot's number.
        recorder: writes what a running task reports.
        hostname: the value of ``request.hostname`` in tasks.
        acknowledged: task types that must not run a second time if a task came as a Celery message.
        composure: reverts what tasks did to their process's signals; None if tasks run in threads, which cannot do
            that.
    """

    def __init__(
        self,
        app: Celery,
        table: SlotTable,
        slot: int,
        recorder: Recorder,
        *,
        hostname: str,
        acknowledged: frozenset[str] = frozenset(),
        composure: Composure | None = None,
    ) -> None:
        self._app = app
        #: The application's registry. `app.tasks` searches for it each time, which costs more than the look into it.
        self._tasks = app.tasks
        self._table = table
        self._slot = slot
        self._recorder = recorder
        self._hostname = hostname
        self._acknowledged = acknowledged
        self._composure = composure
        self._tracers: dict[str, tuple[LeanTracer | None, Callable[..., Any]]] = {}
        self._has_spans = tracer() is not None
        #: The leg whose code is running; None between tasks. The slot's watcher reads it.
        self.running: Leg | None = None
        if composure is not None:
            legs.one_at_a_time(lambda: self.running)
            terminating.listen(lambda: self.running)

    def knows(self, task_type: str) -> bool:
        """Whether this process has the code of a task type."""
        return task_type in self._tasks

    def run(self, task: ClaimedTask) -> Leg:
        """Run ``task`` to its end, whatever that is. A leg without an end was not begun, because its claim was
        superseded or the ledger refuses its start.
        """
        leg = Leg(task, self._slot, self._table, self._recorder, _STATES[task.state])
        is_cancelled = task.is_cancelled or self._table.is_listed_cancelled(task.claim_no, task.id)
        if is_cancelled or task.is_expired:
            return _not_begun(leg, "cancelled" if is_cancelled else "expired")
        code = self._tasks[task.task_type]
        leg.begun_at = time.monotonic()
        leg.runs_once = (task.on_worker_lost or getattr(code, "on_worker_lost", None)) == "fail"
        # For a suspect, the next death has to show whether it had begun, even if the whole node is lost.
        if (leg.runs_once or task.is_alone) and not self._is_start_recorded(leg):
            return leg
        if task.celery is not None and task.on_worker_lost is None and task.task_type in self._acknowledged:
            self._list_begun(task)
        hard = task.time_limit or code.time_limit
        self._table.begin(self._slot, task.claim_no, task.id, leg.begun_at, leg.begun_at + hard if hard else 0.0)
        legs.set_current(leg)
        self.running = leg
        try:
            if self._has_spans:
                with span_of(leg):
                    self._trace(leg, task.soft_time_limit or code.soft_time_limit)
            else:
                self._trace(leg, task.soft_time_limit or code.soft_time_limit)
        finally:
            if forks.happened:
                forks.leave()
            if self._composure is not None:
                self._composure.regain()
            self.running = None
            legs.set_current(None)
            leg.ended_at = time.monotonic()
            self._table.end(self._slot, leg.ended_at)
        return leg

    def _is_start_recorded(self, leg: Leg) -> bool:
        """Write STARTED before the code begins: whatever happens then, the ledger knows that it must not begin again."""
        self._recorder.begun(leg)
        self._recorder.flush()
        leg.ended_at = time.monotonic()
        return leg.recorded is State.STARTED and not leg.is_refused

    def _list_begun(self, task: ClaimedTask) -> None:
        """Note that the code begins, where it outlives this process: the task must not begin again. A commit for each
        task would be too dear.
        """
        if not self._table.list_begun(self._slot, task.claim_no, task.id):
            self._recorder.flush()
            self._table.forget_begun(self._slot)
            self._table.list_begun(self._slot, task.claim_no, task.id)

    def _trace(self, leg: Leg, soft: float | None) -> None:
        task = leg.task
        try:
            from_celery = task.celery is not None
            args = decode(task.args, from_celery=from_celery) or []
            kwargs = decode(task.parameters, from_celery=from_celery)
            kept = decode(task.celery, from_celery=True)
            request = request_of(task, kept, hostname=self._hostname)
            lean, full = self._tracers_of(task.task_type)
            is_short = not from_celery and not is_anybody_listening()
            with self._limited(leg, soft) if soft else _UNLIMITED:
                if lean is not None and is_short:
                    info = lean(leg, args, kwargs, request)
                else:
                    info = full(leg.celery_id, args, kwargs, request)[1]
            _settle(leg, info)
        except terminating.Terminated:
            _terminate(leg)
        except Reject as error:
            _reject(leg, error)
        except BaseException as error:
            leg.fail(error)

    @contextlib.contextmanager
    def _limited(self, leg: Leg, seconds: float) -> Iterator[None]:
        code = self._tasks[leg.task.task_type]
        leg.soft_limit = limit = SoftLimit(seconds)
        limit.start()
        try:
            # A `__call__` of the users' own is their code, too; in Celery's tracer it is around the body.
            with balanced_stacks(code), limit if has_own_call(code) else _UNLIMITED:
                yield
        finally:
            limit.stop()

    def _tracers_of(self, task_type: str) -> tuple[LeanTracer | None, Callable[..., Any]]:
        tracers = self._tracers.get(task_type)
        if tracers is None:
            task = self._tasks[task_type]
            tracers = lean_tracer_of(self._app, task), tracer_of(self._app, task, self._hostname)
            self._tracers[task_type] = tracers
        return tracers


def _settle(leg: Leg, info: Any) -> None:
    """Set the leg's end from what the tracer returned; the leg already has an end that is SUCCESS or FAILURE."""
    if info is None:
        if leg.end is None:
            raise RuntimeError("Celery's tracer reported a success that it did not hand to the result backend")
    elif info.state == "RETRY":
        leg.end = _retried(leg, info.retval)
    elif info.state == "IGNORED":
        leg.end = _ignored(leg)
    elif info.state == "REJECTED":
        _reject(leg, info.retval)
    elif isinstance(leg.end, Failed) and terminating.was_struck(leg):
        _terminate(leg)  # whatever its code made of the exception
        return
    elif isinstance(leg.end, Failed) and isinstance(leg.end.exception, TaskCancelled):
        leg.end = Revoked(to_json({"reason": "cancelled"}), leg.end.request, leg.end.is_published)
        return
    if leg.next is not None and not isinstance(leg.end, GoesOn):
        # `self.retry(throw=False)`: the body went on to an end after it had asked for another run. The last run
        # decides.
        leg.end_without_rest(GoesOn(State.RETRY, leg.next, to_json({"retries": leg.next.retries})))


def _retried(leg: Leg, retry: Retry) -> GoesOn:
    """Handle a retry: ``self.retry`` has sent the next leg already; a bare ``raise Retry`` asks for the same task
    again.
    """
    following = leg.next or again(leg, retries=leg.task.retries + 1, when=retry.when)
    reason = retry.exc if isinstance(retry.exc, BaseException) else retry
    if len(retry.args) > 1:  # the arguments that it was made with; `exc` has only what pickle can hold
        reason = original_of(reason, retry.args[1])
    error = describe_error(reason, None)
    told = {"error": {"type": error["type"], "message": error["message"]}, "retries": following.retries}
    return GoesOn(State.RETRY, following, to_json(told))


def _ignored(leg: Leg) -> Succeeded | GoesOn:
    """``self.replace`` raises Ignore after sending the next leg; any other Ignore ends the task without a result."""
    if leg.next is not None:
        return GoesOn(State.PENDING, leg.next, to_json({"replaced_by": leg.next.task_type}))
    return Succeeded(None, data=to_json({"ignored": True}))


def _reject(leg: Leg, error: Reject) -> None:
    if error.requeue:
        told = {"rejected": str(error.reason), "requeue": True}
        leg.end = GoesOn(State.RETRY, again(leg, retries=leg.task.retries), to_json(told))
    else:
        leg.fail(error)


def _terminate(leg: Leg) -> None:
    leg.next = None
    leg.end_without_rest(Revoked(termination.data_of_end(SIGTERM)))


def _not_begun(leg: Leg, reason: str) -> Leg:
    leg.end, leg.ended_at = Revoked(to_json({"reason": reason})), time.monotonic()
    return leg
