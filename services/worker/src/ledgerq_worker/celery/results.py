"""What is sent after the ledger has a task's end: Celery's result for ``AsyncResult``.

Results go to Redis in one write per batch. The ledger has them already, so when Redis is away they are skipped and
this is logged. What must not be lost (a chord's count, an errback) is in the outbox until it is done.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

import structlog
from celery import Celery
from celery.exceptions import BackendStoreError, TaskRevokedError
from kombu.exceptions import EncodeError, OperationalError
from redis.exceptions import RedisError

from ledgerq_shared.faults import Fault
from ledgerq_shared.redis_access import note_failure, note_success
from ledgerq_shared.redis_faults import fault_of
from ledgerq_shared.states import State
from ledgerq_worker.celery.redis_results import store
from ledgerq_worker.celery.seams.usual_results import usual_result, writes_usual_results
from ledgerq_worker.slot.encoding import decode
from ledgerq_worker.slot.ends import Failed, Revoked, Succeeded
from ledgerq_worker.slot.legs import Leg

log = structlog.get_logger()

#: The errors that say that the broker or the result backend cannot be reached.
AWAY = (RedisError, OperationalError, BackendStoreError)


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
        app: the application with the result backend.
        empty_outbox: called with the numbers of the outbox's entries, and does what they say.
    """

    def __init__(self, app: Celery, empty_outbox: Callable[[Sequence[int]], object]) -> None:
        self._app = app
        self._empty_outbox = empty_outbox
        self._is_silent = app.conf.result_backend is None

    def begun(self, legs: Sequence[Leg]) -> None:
        """The ledger has the starts of these legs: publish those of tasks with `track_started`."""
        self._publish_quietly(_News(leg, State.STARTED, *leg.start) for leg in legs if leg.start is not None)

    def recorded(self, legs: Sequence[Leg], outbox: Sequence[int]) -> None:
        """The ledger has accepted the ends of these legs: publish the results, then do what the outbox says."""
        self._publish_quietly(news for leg in legs if (news := _news_of(leg)) is not None)
        if outbox:
            self._empty_outbox(outbox)

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
            connect_anew_after(self._app, error)

    def _publish(self, news: Sequence[_News]) -> None:
        backend = self._app.backend
        client = getattr(backend, "client", None)
        if client is None:  # not a Redis backend: store them one by one, as Celery does
            for one in news:
                backend.store_result(one.leg.celery_id, one.result, one.state, request=one.request)
            return
        ended = self._app.now()
        values = [
            (_bytes_of(backend.get_key_for_task(one.leg.celery_id)), _bytes_of(self._text(one, ended))) for one in news
        ]
        for one, refused in zip(_twice(news), store(client, values, expires=backend.expires), strict=True):
            if refused is not None:
                if fault_of(refused) in (Fault.REPEAT, Fault.RECONNECT):
                    raise refused
                log.warning("worker.results.refused", task_id=one.leg.task.id, error=str(refused))

    def _text(self, news: _News, ended: datetime) -> str | bytes:
        """What the result backend gets."""
        text = None
        if news.state is State.SUCCESS and self._is_usual:
            text = usual_result(news.leg.celery_id, news.result, news.request, ended)
        return self._encoded(news) if text is None else text

    @cached_property
    def _is_usual(self) -> bool:
        """Whether the application leaves Celery's form of a success as it is."""
        return writes_usual_results(self._app.backend)

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


def connect_anew_after(app: Celery, error: BaseException) -> None:
    """A demoted server keeps its connections and refuses every write: do not use them again."""
    client = getattr(app.backend, "client", None)
    if client is not None and isinstance(error, AWAY) and fault_of(error) is not Fault.REPEAT:
        with contextlib.suppress(*AWAY):
            client.connection_pool.disconnect()


def _bytes_of(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


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
