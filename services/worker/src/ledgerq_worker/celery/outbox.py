"""What has to be sent to others when a task ends: to chords, errbacks and chains that fail, and messages for tasks that
are not ours.

None of this may be lost, so an entry stays in the ledger's ``outbox`` until it is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import psycopg2
import structlog
from celery import Celery, signals
from celery.app.task import Context
from celery.result import result_from_tuple

from ledgerq_shared import outages
from ledgerq_shared.errors import Unavailable
from ledgerq_shared.faults import Fault
from ledgerq_shared.postgres import sqlstates
from ledgerq_shared.postgres.database import Database
from ledgerq_shared.redis_access import note_failure
from ledgerq_shared.redis_faults import fault_of
from ledgerq_shared.statements.outbox import (
    FailedDelivery,
    delete_from_outbox,
    keep_from_outbox,
    note_failed_deliveries,
    put_back_in_outbox,
    take_from_outbox,
)
from ledgerq_shared.statements.read_outcome import StoredOutcome, read_outcome
from ledgerq_shared.states import State
from ledgerq_worker.celery.messages import request_of
from ledgerq_worker.celery.raised import UNTOLD, of_error, rebuild
from ledgerq_worker.celery.results import AWAY, connect_anew_after
from ledgerq_worker.celery.seams.failing import tell_failure
from ledgerq_worker.slot.encoding import celery_loads, decode, to_json

log = structlog.get_logger()

#: For how many seconds a process has the entries of the outbox that it takes; an entry that may run the users' code has
#: `LONGEST` more.
_LEASE = 60.0
#: How many seconds an entry may take in a process that can be ended.
LONGEST = 600.0
#: An entry is given up if it has failed to come to an end this often, because it ends its process or takes too long.
_MOST_ATTEMPTS = 3
#: How many characters of an error the history has.
_LONGEST_ERROR = 1000


class Outbox:
    """Empties the outbox.

    Args:
        app: the application with the result backend and the chords.
        database: the database with the outbox.
        actor: the actor for the event log.
        limit: called before each entry with the number of seconds that it may take, and with 0 after it.
    """

    def __init__(
        self, app: Celery, database: Database, *, actor: str, limit: Callable[[float], None] = lambda _: None
    ) -> None:
        self._app = app
        self._database = database
        self._actor = actor
        self._limit = limit

    def empty(self, *, ids: Sequence[int] | None = None, older_than: float = 0.0) -> int:
        """Do what the outbox's entries say, and delete them; returns how many.

        No transaction is open meanwhile, because an errback is the users' code and may take long. While Redis or
        PostgreSQL is away, all entries stay for the next time. An entry that fails for a reason of its own is logged
        and deleted, as in Celery's own worker, because it would fail again, before all others. An entry that does not
        come to an end is tried several times and then given up. Both are an event in the history of the task.
        """
        try:
            entries = sorted(
                self._database.fetch(take_from_outbox(ids=ids, older_than=older_than, lease=_LEASE), writes=True)
            )
        except Unavailable as error:
            outages.note("outbox.ledger_unavailable", error)
            return 0
        done: list[int] = []
        failed: list[FailedDelivery] = []
        left = [entry for entry, *_ in entries]
        began = time.monotonic()
        try:
            for entry, kind, payload, attempts in entries:
                if done and time.monotonic() - began > _LEASE / 2:
                    break  # the lease of the remaining entries will soon be over
                try:
                    why = self._do(entry, kind, payload, attempts)
                except psycopg2.Error as error:
                    log.error("outbox.entry_not_readable", task_id=payload.get("task_id"), error=str(error).strip())
                    if sqlstates.fault_of(error) is not Fault.REFUSE:
                        continue  # a person must correct it; the others need not wait for that
                    why = _told(error)
                if why is None:
                    done.append(entry)
                else:
                    data = to_json({"what": kind, "attempts": min(attempts, _MOST_ATTEMPTS), "error": why})
                    failed.append(FailedDelivery(entry, _task_of(payload), data))
                left.remove(entry)
        except Unavailable as error:
            outages.note("outbox.ledger_unavailable", error)
        except AWAY as error:
            if not note_failure(error):
                log.warning("outbox.not_emptied", error=f"{type(error).__name__}: {error}")
            connect_anew_after(self._app, error)
        finally:
            self._settle(done, failed, left)
        return len(done) + len(failed)

    def _settle(self, done: list[int], failed: list[FailedDelivery], left: list[int]) -> None:
        try:
            try:
                if failed:
                    self._database.fetch(note_failed_deliveries(failed, actor=self._actor), writes=True)
            except (
                psycopg2.Error
            ) as error:  # an entry that cannot be noted is deleted nevertheless, so that it does not run for ever
                log.error("outbox.failure_not_noted", error=str(error).strip())
                done = [*done, *(one.entry for one in failed)]
            if done:
                self._database.fetch(delete_from_outbox(done), writes=True)
            if left:
                self._database.fetch(put_back_in_outbox(left), writes=True)
        except Unavailable as error:  # their lease ends by itself
            outages.note("outbox.ledger_unavailable", error)

    def _do(self, entry: int, kind: str, payload: dict[str, Any], attempts: int) -> str | None:
        """Do what an entry says. Returns None, or the reason why it failed and is deleted nevertheless."""
        if attempts > _MOST_ATTEMPTS:
            log.error("outbox.given_up", kind=kind, task_id=payload.get("task_id"), attempts=attempts - 1)
            return "it did not come to an end: it ended its process, or took too long"
        rows = self._database.fetch(read_outcome(payload["task_id"])) if kind == "outcome" else []
        if any(row.state != State.SUCCESS for row in rows):  # there may be errbacks and hooks
            self._database.fetch(keep_from_outbox(entry, lease=LONGEST + _LEASE), writes=True)
        self._limit(LONGEST)
        try:
            if kind == "message":
                self._send(payload)
            for row in rows:
                self._tell(row, payload)
        except Exception as error:
            if isinstance(error, AWAY) and fault_of(error) in (Fault.REPEAT, Fault.RECONNECT):
                raise
            log.exception("outbox.entry_failed", kind=kind, task_id=payload.get("task_id"))
            return _told(error)
        finally:
            self._limit(0.0)
        return None

    def _send(self, message: dict[str, Any]) -> None:
        with self._app.producer_or_acquire() as producer:
            producer.publish(
                message["body"],
                routing_key=message["queue"],
                exchange="",
                serializer="json",
                headers=message["headers"],
                **{key: value for key, value in message["properties"].items() if value is not None},
            )

    def _tell(self, outcome: StoredOutcome, payload: dict[str, Any]) -> None:
        """Do from the ledger's row what Celery's own worker does at the end of a task."""
        backend = self._app.backend
        celery_id = outcome.celery_id or outcome.id
        kept = decode(outcome.celery, from_celery=True)
        ran = outcome._replace(attempt=max(outcome.attempt - 1, 0))
        request = Context(request_of(ran, kept, hostname=outcome.worker or ""))
        request.args = decode(outcome.args, from_celery=kept is not None) or []
        request.kwargs = decode(outcome.parameters, from_celery=kept is not None)
        is_kept = not request.ignore_result
        if outcome.state == State.SUCCESS:
            if request.chord:
                result = decode(outcome.result, from_celery=False)
                backend.on_chord_part_return(request, State.SUCCESS.value, result)
        elif outcome.state == State.FAILURE:
            self._tell_failure(outcome, request, payload, is_kept=is_kept)
        elif outcome.state == State.REVOKED:
            backend.mark_as_revoked(celery_id, outcome.reason or "revoked", request=request, store_result=is_kept)
            signals.task_revoked.send(
                sender=self._app.tasks.get(outcome.task_type),
                request=request,
                terminated=outcome.signal is not None,
                signum=outcome.signal,
                expired=outcome.reason == "expired",
            )

    def _tell_failure(
        self, outcome: StoredOutcome, request: Context, payload: dict[str, Any], *, is_kept: bool
    ) -> None:
        backend, error = self._app.backend, outcome.error or {}
        raised = payload.get("exception")
        # The decoder of Celery's own JSON: the arguments of an exception may be dates or decimals.
        kept = celery_loads(to_json(raised)) if raised else None
        exception = rebuild(kept) if kept else of_error(error, seconds=outcome.hard_limit)
        # It is stored once more, also for the chain behind it: as its worker has stored it.
        request.children.extend(result_from_tuple(child, self._app) for child in payload.get("children") or ())
        backend.mark_as_failure(request.id, exception, error.get("traceback"), request=request, store_result=is_kept)
        task = self._app.tasks.get(outcome.task_type)
        if task is not None and (error.get("type") in UNTOLD if kept is None else not payload.get("traced")):
            tell_failure(task, request, exception)


def _task_of(payload: dict[str, Any]) -> str | None:
    try:
        return str(UUID(payload["task_id"]))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".strip()[:_LONGEST_ERROR]
