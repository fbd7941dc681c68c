"""Turns Celery messages into ledger tasks, and back.

It is used when Celery is about to send a message (a task's ``delay``, a chain's next step, a retry) and when a plain
Celery producer's message is adopted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any
from uuid import UUID

from ledgerq_shared.ids import is_of_this_cell, new_task_id, task_id_of_delivery
from ledgerq_shared.process.tracing import Origin, checked_traceparent, current_traceparent
from ledgerq_shared.statements.claim import ClaimedTask
from ledgerq_shared.statements.read_outcome import StoredOutcome
from ledgerq_shared.statements.submit import DEFAULT_PRIORITY, NewTask, NewTaskOptions
from ledgerq_worker.slot import legs
from ledgerq_worker.slot.encoding import encode_arguments, encode_celery

#: The greatest length of a Celery id in bytes. (An entry of an index may have 2,704.)
_LONGEST_ID = 2000

#: Headers whose content is in a column, or that a worker makes anew.
_KNOWN_HEADERS = frozenset(
    "lang task id eta countdown expires retries timelimit argsrepr kwargsrepr origin meth hostname redelivered".split()  # noqa: SIM905
)


def task_from_message(
    name: str,
    headers: dict[str, Any],
    properties: dict[str, Any],
    body: Any,
    *,
    queue: str,
    actor: str,
    timezone: tzinfo = UTC,
    delivery: str | None = None,
    arguments: tuple[str | None, str] | None = None,
) -> NewTask:
    """The ledger task that a Celery message (protocol 2) stands for.

    Args:
        properties: ``priority`` is None if none was given.
        body: ``(args, kwargs, embed)`` with embed = callbacks, errbacks, chain, chord.
        timezone: the application's, which Celery means if a time has no zone.
        delivery: what the message has of its own, if it may be read twice: the task's id then tells its delivery.
        arguments: as :func:`~ledgerq_worker.slot.encoding.encode_arguments` makes them, if they are JSON already; those
            in ``body`` are ignored.

    Raises:
        kombu.exceptions.EncodeError: the arguments are not JSON or too large.
        ValueError, TypeError: a header is not of the kind that Celery writes there.
    """
    args, kwargs, embed = body
    encoded_args, encoded_kwargs = encode_arguments(args, kwargs) if arguments is None else arguments
    hard, soft = map(_number, headers.get("timelimit") or (None, None))
    celery_id = str(headers["id"])
    if len(celery_id.encode()) > _LONGEST_ID:
        raise ValueError(f"its id has more than {_LONGEST_ID:,} bytes: no index could hold it")
    own_id, other_id = ids_of(celery_id, delivery)
    countdown = _number(headers.get("countdown"))
    options = NewTaskOptions(
        run_at=moment(headers.get("eta"), timezone) if countdown is None else None,
        countdown=countdown,
        expires_at=moment(headers.get("expires"), timezone),
        retries=int(headers.get("retries") or 0) or None,
        time_limit=hard,
        soft_time_limit=soft,
        args=encoded_args,
        celery=encode_celery(celery_part(headers, embed)),
        celery_id=other_id,
    )
    return NewTask(
        id=own_id,
        task_type=name,
        queue=queue,
        priority=priority_of(properties, DEFAULT_PRIORITY),
        parameters=encoded_kwargs,
        actor=actor,
        options=options,
        trace=_origin(headers).text(),
    )


def _origin(headers: dict[str, Any]) -> Origin:
    """A task that another task sends has the same origin as that task; a task from elsewhere may bring a trace context
    of its own.
    """
    leg = legs.current()
    if leg is None:
        sent = headers.get("traceparent")
        return Origin(traceparent=checked_traceparent(sent) if isinstance(sent, str) else None)
    origin = Origin.parse(leg.task.trace)
    return Origin(origin.request_id, current_traceparent() or origin.traceparent)


def celery_part(headers: Mapping[str, Any], embed: Mapping[str, Any]) -> dict[str, Any]:
    """What a task keeps of its message beyond its columns; even an empty dict says that the task came from Celery."""
    part = {key: value for key, value in headers.items() if key not in _KNOWN_HEADERS and value not in (None, [], {})}
    part.update({key: value for key, value in (embed or {}).items() if value})
    return part


def request_of(task: ClaimedTask | StoredOutcome, kept: dict[str, Any] | None, *, hostname: str) -> dict[str, Any]:
    """The request context with which Celery's tracer runs a claimed task; of a task that has ended, the one with which it
    ran.

    Args:
        kept: what :func:`celery_part` kept; None for a task that came over HTTP.
    """
    celery_id = task.celery_id or task.id
    request: dict[str, Any] = {
        "id": celery_id,
        "task": task.task_type,
        "root_id": celery_id,
        "correlation_id": celery_id,
        "retries": task.retries,
        "hostname": hostname,
        "is_eager": False,
        "timelimit": [task.time_limit, task.soft_time_limit],
        "delivery_info": {
            "exchange": "",
            "routing_key": task.queue,
            "priority": task.priority,
            "redelivered": task.attempt > task.retries,
        },
    }
    if task.expires_at is not None:
        request["expires"] = task.expires_at.isoformat()
    if kept:
        request.update(kept)
    return request


def ids_of(celery_id: str | None, delivery: str | None) -> tuple[UUID, str | None]:
    """The ids of a new task: its own, and Celery's if that is another one.

    Args:
        delivery: as in :func:`task_from_message`.
    """
    if celery_id is not None and (own_id := _own_id(celery_id)):
        return own_id, None
    return (new_task_id() if delivery is None else task_id_of_delivery(f"{celery_id} {delivery}")), celery_id


def _own_id(celery_id: str) -> UUID | None:
    """The id itself if this ledger made it (a version 7 UUID of its cell), because it orders well; otherwise None."""
    if celery_id[14:15] != "7":  # its version: most are random ones
        return None
    try:
        parsed = UUID(celery_id)
    except ValueError:
        return None
    return parsed if is_of_this_cell(parsed) and str(parsed) == celery_id else None


def priority_of(properties: dict[str, Any], usual: int) -> int:
    """The priority that a message asks for, limited to 0 to 9; ``usual`` if it asks for none."""
    value = properties.get("priority")
    return usual if value is None else min(max(int(value), 0), 9)


def moment(text: str | None, timezone: tzinfo) -> str | None:
    """A message's time in RFC 3339. For a time without a zone Celery means the application's zone; PostgreSQL would use
    its own.

    Raises:
        ValueError: it is not a time.
    """
    if text is None:
        return None
    parsed = datetime.fromisoformat(text)
    return (parsed.replace(tzinfo=timezone) if parsed.tzinfo is None else parsed).isoformat()


def _number(value: Any) -> float | None:
    if value is None:
        return None
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no number of seconds")
    return number
