"""A task's next leg, and when it begins.

How long a retry waits is Celery's to say: the task's ``countdown`` or ``eta``, its ``default_retry_delay``, or the back-off
of ``autoretry_for``. A delay in seconds stays one, so that the database adds it to its own clock.
"""

from __future__ import annotations

from datetime import tzinfo
from typing import Any

from ledgerq_worker.celery.messages import celery_part, moment, priority_of
from ledgerq_worker.slot.encoding import encode_arguments, encode_celery
from ledgerq_worker.slot.ends import Next
from ledgerq_worker.slot.legs import Leg


def next_of_message(
    name: str,
    headers: dict[str, Any],
    properties: dict[str, Any],
    body: Any,
    queue: str,
    leg: Leg,
    timezone: tzinfo,
) -> Next:
    """The running task's next leg, from the message that Celery would send for it."""
    args, kwargs, embed = body
    encoded_args, encoded_kwargs = encode_arguments(args, kwargs)
    part = celery_part(headers, embed)
    has_countdown = headers.get("countdown") is not None
    return Next(
        name,
        queue,
        priority_of(properties, leg.task.priority),
        headers.get("retries") or 0,
        encoded_args,
        encoded_kwargs,
        encode_celery(part),
        delay=headers.get("countdown"),
        run_at=None if has_countdown else moment(headers.get("eta"), timezone),
    )


def again(leg: Leg, *, retries: int, when: Any = None) -> Next:
    """The same task once more, ``when``: after this many seconds, or at this time."""
    task = leg.task
    is_delay = isinstance(when, (int, float))
    return Next(
        task.task_type,
        task.queue,
        task.priority,
        retries,
        task.args,
        task.parameters,
        task.celery,
        delay=float(when) if is_delay else None,
        run_at=None if is_delay or when is None else when.isoformat(),
    )
