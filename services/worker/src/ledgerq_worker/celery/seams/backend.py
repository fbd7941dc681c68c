"""The *result backend*: inside a leg, the mark that a task is done or failed is kept in the leg."""

from __future__ import annotations

import sys
from typing import Any

from celery import Celery
from celery.app.backends import by_url
from celery.app.task import get_actual_ignore_result
from celery.backends.base import Backend
from celery.exceptions import SoftTimeLimitExceeded

from ledgerq_shared.states import State
from ledgerq_worker.slot import legs
from ledgerq_worker.slot.encoding import describe_error, original_of, to_json
from ledgerq_worker.slot.ends import Failed
from ledgerq_worker.slot.limits import StruckWhileEncoding


class _KeepsOutcomes(Backend):
    """Added to the application's own result backend: while a leg runs, its outcomes are kept in the leg."""

    is_ledger_backend = True

    def mark_as_done(
        self, task_id: str, result: Any, request: Any = None, store_result: bool = True, state: str = "SUCCESS"
    ) -> None:
        leg = _own_leg(task_id)
        if leg is None:
            super().mark_as_done(task_id, result, request, store_result, state)
            return
        is_kept = not get_actual_ignore_result(self.app.tasks[leg.task.task_type], request)
        leg.succeed(result, request, is_kept=is_kept)

    def mark_as_failure(
        self,
        task_id: str,
        exc: BaseException,
        traceback: str | None = None,
        request: Any = None,
        store_result: bool = True,
        call_errbacks: bool = True,
        state: str = "FAILURE",
    ) -> None:
        leg = _own_leg(task_id)
        if leg is None:
            super().mark_as_failure(task_id, exc, traceback, request, store_result, call_errbacks, state)
            return
        # This is called while the tracer handles what was raised. The ledger keeps that exception, even if pickle
        # cannot hold it.
        raised = original_of(exc, sys.exc_info()[1])
        if isinstance(exc, StruckWhileEncoding):
            raised = exc = SoftTimeLimitExceeded(*exc.args)
        error = to_json(describe_error(raised, str(traceback or "") if raised.__traceback__ is None else None))
        # What the tracer sent for a success that then could not be stored must not leave.
        leg.end_without_rest(Failed(error, exc, request, store_result))

    def mark_as_retry(self, task_id: str, exc: BaseException, *args: Any, **kwargs: Any) -> Any:
        if _own_leg(task_id) is None:
            return super().mark_as_retry(task_id, exc, *args, **kwargs)
        return None

    def store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: str | None = None,
        request: Any = None,
        **kwargs: Any,
    ) -> Any:
        leg = _own_leg(task_id)
        if leg is None or state != State.STARTED:
            return super().store_result(task_id, result, state, traceback, request, **kwargs)
        # `track_started`: this leaves together with the ledger's own STARTED, because Redis may be away or the claim
        # superseded.
        leg.start = result, request
        return result

    def on_task_call(self, producer: Any, task_id: str) -> None:
        if legs.current() is None:
            super().on_task_call(producer, task_id)


def install_backend(app: Celery) -> None:
    """Replace the application's result backend by one that keeps outcomes in the running leg."""
    base, url = by_url(app.backend_cls or app.conf.result_backend, app.loader)
    if getattr(base, "is_ledger_backend", False):
        return

    class LedgerBackend(_KeepsOutcomes, base):  # type: ignore[misc, valid-type]
        """The application's own backend, except while a leg runs."""

        def __init__(self, app: Celery, url: str | None = None, **kwargs: Any) -> None:
            super().__init__(app=app, url=url or _url, **kwargs)

    _url = url
    app.backend_cls = LedgerBackend
    # Drop the instance that may have been made before.
    app._backend_cache = None  # noqa: SLF001
    app._local.backend = None  # noqa: SLF001


def _own_leg(task_id: str) -> legs.Leg | None:
    leg = legs.current()
    return leg if leg is not None and leg.celery_id == task_id else None
