"""What is sent after the ledger has a task's end: Celery's result for ``AsyncResult``, chords, errbacks, messages.

Results go to Redis in one pipeline per batch. The ledger has them already, so when Redis is away they are skipped and
this is logged. What must not be lost (a chord's count, an errback) is in the outbox until it is done.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import psycopg2
import structlog
from celery import Celery
from celery.app.task import Context
from celery.exceptions import BackendStoreError, TaskRevokedError
from kombu.exceptions import EncodeError, OperationalError
from redis.exceptions import RedisError

from ledgerq_shared import outages, sqlstates
from ledgerq_shared.database import Database
from ledgerq_shared.errors import Unavailable
from ledgerq_shared.faults import Fault
from ledgerq_shared.redis_access import note_failure, note_success
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
from ledgerq_worker.celery.messages import celery_request
from ledgerq_worker.slot.encoding import decode, to_json
from ledgerq_worker.slot.ends import Failed, Revoked, Succeeded
from ledgerq_worker.slot.legs import Leg

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

#: The broker or the result backend cannot be reached.
_AWAY = (RedisError, OperationalError, BackendStoreError)


class TaskFailed(Exception):
    """A task's error in Celery's result backend, if the original exception object is gone."""


class _News(NamedTuple):
    """What ``AsyncResult`` will see of a leg."""

    leg: Leg
    state: State
    result: Any
    #: Celery's request context; None: there is none.
    request: Any


class Publisher:
    """Sends outcomes, after the commit.

    Args:
        app: whose result backend and chords these are.
        database: the database with the outbox.
        actor: the actor for the event log.
        limit: called before each entry with the number of seconds that it may take, and with 0 after it.
    """

    def __init__(
        self, app: Celery, database: Database, *, actor: str, limit: Callable[[float], None] = lambda _: None
    ) -> None:
        self._limit = limit
        self._actor = actor
        self._app = app
        self._database = database
        self._is_silent = app.conf.result_backend is None

    def begun(self, legs: Sequence[Leg]) -> None:
        """The ledger has the starts of these legs: publish those of tasks with `track_started`."""
        self._publish_quietly(_News(leg, State.STARTED, *leg.start) for leg in legs if leg.start is not None)

    def recorded(self, legs: Sequence[Leg], outbox: Sequence[int]) -> None:
        """The ledger has accepted the ends of these legs: publish the results, then do what the outbox says."""
        self._publish_quietly(news for leg in legs if (news := _news_of(leg)) is not None)
        if outbox:
            self.empty_outbox(ids=outbox)

    def empty_outbox(self, *, ids: Sequence[int] | None = None, older_than: float = 0.0) -> int:
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
        except _AWAY as error:
            if not note_failure(error):
                log.warning("outbox.not_emptied", error=f"{type(error).__name__}: {error}")
            self._connect_anew_after(error)
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
        if any(row.state != State.SUCCESS and row.celery is not None for row in rows):  # there may be errbacks
            self._database.fetch(keep_from_outbox(entry, lease=LONGEST + _LEASE), writes=True)
        self._limit(LONGEST)
        try:
            if kind == "message":
                self._send(payload)
            for row in rows:
                self._tell(row)
        except Exception as error:
            if isinstance(error, _AWAY) and fault_of(error) in (Fault.REPEAT, Fault.RECONNECT):
                raise
            log.exception("outbox.entry_failed", kind=kind, task_id=payload.get("task_id"))
            return _told(error)
        finally:
            self._limit(0.0)
        return None

    def _publish_quietly(self, told: Iterable[_News]) -> None:
        news = [] if self._is_silent else list(told)
        if not news:
            return
        try:
            self._publish(news)
            note_success(writes=True)
        except Exception as error:  # Redis is away, in one of the transport's many ways
            if not note_failure(error):
                log.warning("worker.results.not_published", error=str(error), results=len(news))
            self._connect_anew_after(error)

    def _connect_anew_after(self, error: BaseException) -> None:
        """A demoted server keeps its connections and refuses every write: do not use them again."""
        client = getattr(self._app.backend, "client", None)
        if client is not None and isinstance(error, _AWAY) and fault_of(error) is not Fault.REPEAT:
            with contextlib.suppress(*_AWAY):
                client.connection_pool.disconnect()

    def _publish(self, news: Sequence[_News]) -> None:
        backend = self._app.backend
        client = getattr(backend, "client", None)
        if client is None:  # not a Redis backend: store them one by one, as Celery does
            for one in news:
                backend.store_result(one.leg.celery_id, one.result, one.state, request=one.request)
            return
        with client.pipeline(transaction=False) as pipeline:
            for one in news:
                value = self._encoded(one)
                key = backend.get_key_for_task(one.leg.celery_id)
                if backend.expires:
                    pipeline.setex(key, backend.expires, value)
                else:
                    pipeline.set(key, value)
                pipeline.publish(key, value)
            for one, refused in zip(_twice(news), pipeline.execute(raise_on_error=False), strict=True):
                if isinstance(refused, Exception):
                    if fault_of(refused) in (Fault.REPEAT, Fault.RECONNECT):
                        raise refused
                    log.warning("worker.results.refused", task_id=one.leg.task.id, error=str(refused))

    def _encoded(self, news: _News) -> Any:
        backend, result = self._app.backend, news.result
        if isinstance(result, BaseException):
            result = backend.prepare_exception(result, serializer=backend.serializer)
        meta = backend._get_result_meta(result, news.state.value, _traceback_of(news), news.request)  # noqa: SLF001
        meta["task_id"] = news.leg.celery_id
        try:
            return backend.encode(meta)
        except EncodeError:  # the ledger's JSON holds more than Celery's: enums, Pydantic models
            kept = news.leg.end.result if isinstance(news.leg.end, Succeeded) else None
            return backend.encode({**meta, "result": decode(kept, from_celery=False)})

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

    def _tell(self, outcome: StoredOutcome) -> None:
        """Do from the ledger's row what Celery's own worker does at the end of a task."""
        backend = self._app.backend
        celery_id = outcome.celery_id or outcome.id
        kept = decode(outcome.celery, from_celery=True) or {}
        request = Context(celery_request(celery_id, outcome.task_type, kept))
        is_kept = not request.ignore_result
        if outcome.state == State.SUCCESS:
            if request.chord:
                result = decode(outcome.result, from_celery=False)
                backend.on_chord_part_return(request, State.SUCCESS.value, result)
        elif outcome.state == State.FAILURE:
            error = outcome.error or {}
            exception = _rebuilt(error)
            backend.mark_as_failure(celery_id, exception, error.get("traceback"), request=request, store_result=is_kept)
        elif outcome.state == State.REVOKED:
            backend.mark_as_revoked(celery_id, outcome.reason or "revoked", request=request, store_result=is_kept)


def _task_of(payload: dict[str, Any]) -> str | None:
    try:
        return str(UUID(payload["task_id"]))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".strip()[:_LONGEST_ERROR]


def _twice(news: Sequence[_News]) -> list[_News]:
    """Each of the news with its two commands: one stores it, and one publishes it to clients that wait."""
    return [one for one in news for _ in range(2)]


def _news_of(leg: Leg) -> _News | None:
    """The news of a leg; None if its end is not published, or if it was not the task's last leg."""
    match leg.end:
        case Succeeded(value=value, request=request, is_published=True):
            return _News(leg, State.SUCCESS, value, request)
        case Failed(exception=exception, request=request, is_published=True):
            return _News(leg, State.FAILURE, exception, request)
        case Revoked(request=request, is_published=True):
            return _News(leg, State.REVOKED, TaskRevokedError("cancelled"), request)
    return None


def _traceback_of(news: _News) -> str | None:
    end = news.leg.end
    if news.state is not State.FAILURE or not isinstance(end, Failed):
        return None
    return str(decode(end.error, from_celery=False)["traceback"])


def _rebuilt(error: dict[str, Any]) -> BaseException:
    """An exception of the recorded type's name, for the backend and for errbacks."""
    kind = type(str(error.get("type") or "TaskFailed"), (TaskFailed,), {"__module__": "ledgerq"})
    exception: BaseException = kind(error.get("message"))
    return exception
