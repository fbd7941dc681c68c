"""Why a task is not running: turns what the ledger shows into findings, the most important first.

=====================  ===============================================================================================
code                   what it says
=====================  ===============================================================================================
`ended`                it is final
`not_retried`          why nothing has tried it again
`running`              its code runs, on which worker, since when
`claimed`              a worker has taken it and is about to begin
`worker_silent`        that worker has not been heard of; the task will be taken back
`cancel_requested`     somebody asked to cancel it
`eta`                  it is not to begin before a moment
`retry`                it waits for its next try
`due`                  that moment has come; the next sweep makes it ready
`limit`                a limit is reached
`no_maintenance`       no maintenance process leads, so nothing that is due becomes ready
`redis_away`           Redis does not answer, so no worker is told that there is work
`redis_refuses`        Redis takes no writes, so no worker is told that there is work
`ledger_refuses`       PostgreSQL takes no writes, so nothing begins and nothing ends
`queue_paused`         its queue is paused
`no_worker_for_queue`  no live worker serves its queue
`no_worker_for_type`   live workers serve its queue, but none has the code of its type
`ahead`                other tasks of its queue are before it
`workers_busy`         every slot that serves its queue holds tasks
`alone`                it was running when a worker died, so it runs by itself
`next`                 nothing stands in its way
`expires`              it will be revoked unless it begins before a moment
=====================  ===============================================================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal

from ledgerq_api.tasks.action_schemas import Finding
from ledgerq_shared.languages import Locale, say, spoken
from ledgerq_shared.statements.read_explain import AHEAD_UP_TO, Circumstances
from ledgerq_shared.states import State

#: Failures of the stores, by the code of the finding that reports them.
FailingStore = Literal["redis_away", "redis_refuses", "ledger_refuses"]

TEXTS = {
    "ended": "It ended as {state}{error} at {since}.",
    "not_retried": "Nothing tries it again by itself: a failure is retried only where the task's code asks for it "
    "(`autoretry_for`, `self.retry`), at most `max_retries` times. `POST /tasks/{{task_id}}/retry` runs it again.",
    "running": "It has been running on {worker} since {since}.",
    "claimed": "{worker} took it at {since} and is about to begin.",
    "worker_silent": "{worker} has not been heard of for longer than its lease; the task will be taken back.",
    "cancel_requested": "Its cancellation was requested at {since}.",
    "eta": "It is not to begin before {until}.",
    "retry": "It waits until {until} for its next try.",
    "due": "It has been due since {since}; the next sweep makes it ready.",
    "limit": "A limit of its type or queue is reached.",
    "no_maintenance": "No maintenance process is running: nothing that becomes due is made ready.",
    "redis_away": "Redis has not answered since {since}: no worker is told of it. "
    "It begins within seconds of Redis being back.",
    "redis_refuses": "Redis has taken no writes since {since}: no worker is told of it. `/health` says why.",
    "ledger_refuses": "PostgreSQL has taken no writes since {since}: nothing begins or ends. `/health` says why.",
    "queue_paused": "Queue {queue} is paused.",
    "no_worker_for_queue": "No live worker serves queue {queue}.",
    "no_worker_for_type": "{count} live workers serve queue {queue}, but none of them has {task_type}.",
    "ahead": "{count} tasks of queue {queue} are before it.",
    "workers_busy": "All {count} slots that serve queue {queue} are busy.",
    "alone": "It was running when a worker died, so it runs by itself.",
    "next": "Nothing stands in its way: it should begin within a second.",
    "expires": "It will be revoked unless it begins before {until}.",
}


def explain(
    seen: Circumstances, language: Locale, failing: Mapping[FailingStore, datetime] = MappingProxyType({})
) -> list[Finding]:
    """The findings, in order; at least one.

    Args:
        failing: which failures of the stores this process knows of, and since when.
    """
    return [_said(code, values, seen, language) for code, values in _findings(seen, failing)]


Found = tuple[str, dict[str, Any]]


def _findings(seen: Circumstances, failing: Mapping[FailingStore, datetime]) -> Iterator[Found]:
    if seen.completed_at is not None:
        yield "ended", {"since": seen.completed_at}
        if seen.error and seen.error.get("retryable"):
            yield "not_retried", {}
        return
    if seen.worker is not None:
        yield from _claimed(seen)
        return
    found = [*_held(seen), *_failing(failing), *_obstacles(seen), *_queue_before(seen)]
    if seen.ready_alone:
        found.append(("alone", {}))
    yield from found or [("next", {})]
    if seen.expires_at is not None:
        yield "expires", {"until": seen.expires_at}


def _claimed(seen: Circumstances) -> Iterator[Found]:
    if seen.state == State.STARTED:
        yield "running", {"worker": seen.worker, "since": seen.started_at}
    else:
        yield "claimed", {"worker": seen.worker, "since": seen.claimed_at}
    if seen.is_worker_silent:
        yield "worker_silent", {"worker": seen.worker}
    if seen.cancel_requested_at is not None:
        yield "cancel_requested", {"since": seen.cancel_requested_at}


def _held(seen: Circumstances) -> Iterator[Found]:
    if seen.held_reason == "limit":
        yield "limit", {}
    if seen.held_until is None:
        return
    if seen.held_until > seen.now:
        yield ("retry" if seen.held_reason == "retry" else "eta"), {"until": seen.held_until}
    else:
        yield "due", {"since": seen.held_until}
    if not seen.has_leader:
        yield "no_maintenance", {}


def _failing(failing: Mapping[FailingStore, datetime]) -> Iterator[Found]:
    for code, since in failing.items():
        yield code, {"since": since}


def _obstacles(seen: Circumstances) -> Iterator[Found]:
    """What would keep the task from running even if its time had come."""
    if seen.is_paused:
        yield "queue_paused", {}
    if not seen.workers:
        yield "no_worker_for_queue", {}
    elif not seen.able:
        yield "no_worker_for_type", {"count": seen.workers}


def _queue_before(seen: Circumstances) -> Iterator[Found]:
    if seen.ahead:
        yield "ahead", {"count": seen.ahead}
    if seen.ahead is not None and seen.workers and seen.busy >= seen.slots:
        yield "workers_busy", {"count": seen.slots}


def _said(code: str, values: dict[str, Any], seen: Circumstances, language: Locale) -> Finding:
    texts = {name: _text(value) for name, value in values.items()}
    error = f" ({seen.error['type']})" if seen.error and seen.error.get("type") else ""
    said = say(TEXTS[code], **texts, queue=seen.queue, task_type=seen.task_type, state=seen.state, error=error)
    moments = {name: value.astimezone(UTC) for name, value in values.items() if isinstance(value, datetime)}
    return Finding(code=code, text=spoken(said, language), **{**values, **moments})


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, int):
        return f"{AHEAD_UP_TO:,}+" if value > AHEAD_UP_TO else f"{value:,}"
    return str(value)
