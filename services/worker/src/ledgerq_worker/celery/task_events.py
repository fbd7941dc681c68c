"""Celery's events of the tasks inside drains, for Flower and similar programs.

They are sent in batches, after the commit, and only while somebody listens: PUBLISH returns how many clients have
received a message, so every two seconds each node's heartbeat event finds out whether somebody listens, and sets a flag
in the slot table. While nobody listens, a drain only looks at that flag, once a flush.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import structlog
from celery import Celery
from celery.utils.sysinfo import load_average
from celery.utils.time import utcoffset

from ledgerq_shared.states import State
from ledgerq_worker.celery.seams.events import SOFTWARE, EventPublisher
from ledgerq_worker.slot.ends import Failed, GoesOn, Revoked, Succeeded
from ledgerq_worker.slot.legs import Leg
from ledgerq_worker.slot.table import SlotTable

log = structlog.get_logger()

#: Seconds between two heartbeat events; and the interval that they state, which is longer, so that a late event does
#: not make a node look dead.
_BEAT_EVERY = 2.0
_SAID_FREQUENCY = 5.0
#: After Redis did not accept events, none are sent for this many seconds, so that a drain does not wait for it each
#: time.
_PAUSE = 5.0
#: How many characters of arguments, results and messages, and of a traceback, are sent.
_LONGEST = 1024
_LONGEST_TRACEBACK = 4096


class NodeEvents:
    """Reports that the node lives, and finds out whether anybody listens. It is used by the parent process.

    Args:
        hostname: the node's name in Celery.
    """

    def __init__(self, app: Celery, table: SlotTable, *, hostname: str) -> None:
        self._publisher = EventPublisher(app)
        self._clock = app.clock
        self._table = table
        self._hostname = hostname
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def start(self) -> None:
        """Start; a second call does nothing."""
        if self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        """Report that the node goes offline, if anybody listens."""
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join(_BEAT_EVERY)
            if self._table.is_watched:
                self._say("worker-offline")

    def _run(self) -> None:
        while True:
            is_watched = self._say("worker-heartbeat") > 0
            if is_watched != self._table.is_watched:
                self._table.is_watched = is_watched
                log.info("worker.events.on" if is_watched else "worker.events.off")
            if self._is_over.wait(_BEAT_EVERY):
                return

    def _say(self, kind: str) -> int:
        running = sum(record.task_id is not None for record in self._table.read())
        event = {
            "type": kind,
            "hostname": self._hostname,
            "timestamp": time.time(),
            "utcoffset": utcoffset(),
            "pid": os.getpid(),
            "clock": self._clock.forward(),
            "freq": _SAID_FREQUENCY,
            "active": running,
            "loadavg": load_average(),
            **SOFTWARE,
        }
        try:
            return self._publisher.publish(event, kind.replace("-", "."))
        except Exception as error:  # Redis is away, in one of the transport's many ways
            log.debug("worker.events.not_sent", error=str(error))
            return 0


class _Allowance:
    """Allows a number of events a second; after a quiet second at least one, however small a slot's share is."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._left = self._most = max(rate, 1.0) if rate else 0.0
        self._filled_at = time.monotonic()

    def take(self, now: float) -> bool:
        self._left = min(self._most, self._left + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class TaskEvents:
    """Shows the tasks of one slot to programs that listen.

    Args:
        hostname: the node's name in Celery.
        rate: how many tasks a second are shown at most, and as many failures; the others are left out.
    """

    def __init__(self, app: Celery, table: SlotTable, *, hostname: str, rate: float) -> None:
        self._publisher = EventPublisher(app)
        self._clock = app.clock
        self._table = table
        self._hostname = hostname
        self._ordinary, self._failures = _Allowance(rate), _Allowance(rate)
        self._silent_until = 0.0

    @property
    def are_there(self) -> bool:
        """Whether anybody listens. The question costs next to nothing."""
        return self._table.is_watched

    def show(self, begun: Sequence[Leg], ended: Sequence[Leg]) -> None:
        """Send what the ledger has just accepted: starts of tasks that still run, and ends."""
        now = time.monotonic()
        if now < self._silent_until:
            return
        events: list[dict[str, Any]] = []
        for leg in ended:
            allowance = self._failures if isinstance(leg.end, Failed) else self._ordinary
            if leg.is_shown or allowance.take(now):
                events += self._all_of(leg)
        for leg in begun:
            if leg.end is None and not leg.is_shown and self._ordinary.take(now):
                leg.is_shown = True
                events += self._begin(leg)
        if not events:
            return
        try:
            self._publisher.publish(events, "task.multi")
        except Exception as error:  # Redis is away, in one of the transport's many ways
            self._silent_until = now + _PAUSE
            log.warning("worker.events.not_sent", error=str(error), events=len(events))

    def _all_of(self, leg: Leg) -> Iterator[dict[str, Any]]:
        if not leg.is_shown:
            yield from self._begin(leg)
        kind, fields = _end_of(leg)
        if kind:
            yield self._event(kind, leg, leg.ended_ago, **fields)

    def _begin(self, leg: Leg) -> Iterator[dict[str, Any]]:
        task = leg.task
        since = leg.begun_ago if leg.begun_at else leg.ended_ago
        yield self._event(
            "task-received",
            leg,
            since,
            name=task.task_type,
            args=(task.args or "[]")[:_LONGEST],
            kwargs=task.parameters[:_LONGEST],
            retries=task.retries,
            eta=None,
            expires=None,
            root_id=leg.celery_id,
            parent_id=None,
        )
        if leg.begun_at:
            yield self._event("task-started", leg, since)

    def _event(self, kind: str, leg: Leg, ago: float, **fields: Any) -> dict[str, Any]:
        return {
            "type": kind,
            "uuid": leg.celery_id,
            "hostname": self._hostname,
            "timestamp": time.time() - ago,
            "utcoffset": utcoffset(),
            "pid": os.getpid(),
            "clock": self._clock.forward(),
            **fields,
        }


def _end_of(leg: Leg) -> tuple[str | None, dict[str, Any]]:
    """The event that Celery's worker would send for such an end, and its fields."""
    runtime = leg.ended_at - leg.begun_at if leg.begun_at else 0.0
    match leg.end:
        case Succeeded(result=result, value=value):
            return "task-succeeded", {
                "result": (repr(value) if result is None else result)[:_LONGEST],
                "runtime": runtime,
            }
        case Failed(error=error):
            return "task-failed", _error(error)
        case Revoked(data=data):
            is_expired = json.loads(data).get("reason") == "expired"
            return "task-revoked", {"terminated": bool(leg.begun_at), "signum": None, "expired": is_expired}
        case GoesOn(state=State.RETRY, data=data):
            return "task-retried", _error(json.dumps(json.loads(data).get("error") or {}))
    return None, {}  # replaced: its next leg sends the event


def _error(text: str | None) -> dict[str, Any]:
    error = json.loads(text or "{}")
    exception = f"{error.get('type')}({error.get('message')!r})"
    return {"exception": exception[:_LONGEST], "traceback": str(error.get("traceback") or "")[-_LONGEST_TRACEBACK:]}
