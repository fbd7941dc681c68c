"""Decides what happens to a message that Celery is about to send: it becomes a row of the ledger, at once or with the
leg's end.

| sent by                                     | goes                                                        |
| a task's body, or any code outside a task   | into the ledger at once, committed when ``delay`` returns   |
| the tracer after the body (chain, callback) | into the ledger in the transaction that records the end     |
| ``self.retry`` and ``self.replace``         | as the running task's next leg, in that same transaction    |
| anybody, for a task that no worker of ours knows | to the broker, after the leg's end                     |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import psycopg2
import structlog
from celery import Celery, signals

from ledgerq_shared.broker import DRAIN_TASK
from ledgerq_shared.errors import DuplicateTask, LedgerQError
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.postgres.repeating import until_known
from ledgerq_shared.postgres.sqlstates import is_missing_right
from ledgerq_shared.process.batching import Batcher, run_flush
from ledgerq_shared.process.once import OncePerProcess
from ledgerq_shared.statements.end_at_once import EndAtOnce, end_at_once
from ledgerq_shared.statements.submit import NewTask, NewTaskOptions
from ledgerq_shared.tasks.reusing import submit_reusing
from ledgerq_shared.tasks.submitting import LONGEST_KEY, LONGEST_TTL, POLICIES, Existing, Submitted
from ledgerq_shared.tasks.waking import Waker
from ledgerq_worker.celery.messages import task_from_message
from ledgerq_worker.celery.retries import next_of_message
from ledgerq_worker.celery.seams.sender import queue_of
from ledgerq_worker.slot import legs
from ledgerq_worker.slot.encoding import celery_json

log = structlog.get_logger()

_MAX_BATCH = 1000
#: Seconds for which submits are sent again if PostgreSQL refuses them for a while, or if their commit was interrupted;
#: the same ids change nothing.
_RESEND_FOR = 4.0

#: Options of ``apply_async`` that Celery does not have; they mean the same as the fields of a submit over HTTP.
UNIQUE_OPTIONS = ("unique_key", "unique_policy", "unique_ttl")


class _Own(NamedTuple):
    """The objects with which a process submits."""

    database: Database
    waker: Waker
    batcher: Batcher[NewTask, None]


class Ended(NamedTuple):
    """A task that is accepted only to say why it does not run."""

    task: NewTask
    end: EndAtOnce


class Submitter:
    """Submits tasks to the ledger and wakes workers. Safe in threads and after a fork.

    Args:
        connect: opens the database and the way to wake workers; called once in each process, on first use.
    """

    def __init__(self, connect: Callable[[], tuple[Database, Waker]]) -> None:
        self._connect = connect
        self._own = OncePerProcess(self._make)

    def submit(self, task: NewTask) -> None:
        """Accept one task; it is committed when this returns.

        Raises:
            LedgerUnavailable: PostgreSQL is away, or has refused the task for a while; nothing was recorded.
            DuplicateTask: another task, which the error names, holds its unique key; this is raised whatever the policy
                is.
        """
        self._own().batcher.submit(task).result()

    def submit_all(self, tasks: Sequence[NewTask]) -> list[BaseException | None]:
        """Accept a batch, in the calling thread; returns for each task its error, or None if it is committed.

        An error is `Unavailable` if PostgreSQL is away; any other error means that the ledger cannot hold that task.
        """
        return run_flush(self._flush, list(tasks)) if tasks else []

    def submit_ended(self, tasks: Sequence[Ended], *, actor: str) -> list[BaseException | None]:
        """Accept tasks that never run, each together with its end; returns errors as :meth:`submit_all`. A task that is
        there already is left as it is.
        """

        def flush(ended: list[Ended]) -> list[BaseException | None]:
            own = self._own()

            def once(_: bool) -> None:
                with own.database.transaction() as cursor:
                    submit_reusing(cursor, [one.task for one in ended])
                    execute(cursor, end_at_once([one.end for one in ended], actor=actor))

            until_known(once, seconds=_RESEND_FOR)
            return [None] * len(ended)

        return run_flush(flush, list(tasks)) if tasks else []

    def wake(self, ready: Mapping[str, int]) -> None:
        """Wake workers for queues in which tasks are ready."""
        self._own().waker.wake(ready)

    def close(self) -> None:
        """Send the tickets that are pending."""
        if self._own.is_made:
            self._own().waker.close()

    def _make(self) -> _Own:
        database, waker = self._connect()
        return _Own(database, waker, Batcher(self._flush, max_items=_MAX_BATCH, name="submit"))

    def _flush(self, tasks: list[NewTask]) -> list[BaseException | None]:
        own = self._own()

        def once(_: bool) -> Submitted:
            with own.database.transaction() as cursor:
                return submit_reusing(cursor, tasks)

        try:
            ready, others = until_known(once, seconds=_RESEND_FOR)
        except psycopg2.Error as error:
            if is_missing_right(error):
                return [error] * len(tasks)
            raise  # the batcher finds out which task is at fault, or that all fail
        own.waker.wake(+ready)
        return [_refusal(others.get(task.id)) for task in tasks]


def _refusal(other: Existing | LedgerQError | None) -> LedgerQError | None:
    if isinstance(other, Existing):
        return DuplicateTask(task_id=str(other.id), task_status=other.state)
    return other


class LedgerSender:
    """Decides where a message goes; see the table above.

    Args:
        app: whose messages these are.
        submitter: the way into the ledger.
        actor: who submits, for the event log.
        knows: whether a task type is one of ours.
    """

    def __init__(self, app: Celery, submitter: Submitter, *, actor: str, knows: Callable[[str], bool]) -> None:
        self._app = app
        self._submitter = submitter
        self._actor = actor
        self._knows = knows

    def __call__(self, name: str, message: Any, options: dict[str, Any], send_natively: Callable[[], Any]) -> Any:
        """Handle one message; ``Task.apply_async`` ignores what is returned."""
        if name == DRAIN_TASK:
            return send_natively()
        headers, properties, body, _ = message
        headers = {**headers, **(options.get("headers") or {})}
        properties = {**properties, "priority": options.get("priority", properties.get("priority"))}
        queue = queue_of(self._app, options)
        leg = legs.current()
        if leg is not None and headers["id"] == leg.celery_id:
            leg.next = next_of_message(name, headers, properties, body, queue, leg, self._app.timezone)
            return None
        if not self._knows(name):
            return self._send_foreign(leg, name, headers, properties, body, queue, send_natively)
        # Tracing libraries and error trackers put their context into the headers here.
        signals.before_task_publish.send(
            sender=name, body=body, exchange="", routing_key=queue, headers=headers, properties=properties,
            declare=[], retry_policy=None,
        )  # fmt: skip
        task = task_from_message(
            name, headers, properties, body, queue=queue, actor=self._actor, timezone=self._app.timezone
        )
        unique = {name: options[name] for name in UNIQUE_OPTIONS if options.get(name) is not None}
        if leg is not None and leg.is_body_done:
            if (
                unique
            ):  # the message goes into the transaction that records the end, which must not wait for another task's key
                log.warning("worker.unique_key.ignored", task_type=name, task_id=leg.task.id)
            leg.follow_ups.append(task)
        else:
            self._submitter.submit(_with_unique_key(task, unique) if unique else task)
        signals.after_task_publish.send(sender=name, body=body, exchange="", routing_key=queue, headers=headers)
        return None

    def _send_foreign(
        self,
        leg: legs.Leg | None,
        name: str,
        headers: dict[str, Any],
        properties: dict[str, Any],
        body: Any,
        queue: str,
        send_natively: Callable[[], Any],
    ) -> Any:
        if leg is None or not leg.is_body_done:
            return send_natively()
        leg.messages.append(
            {"name": name, "headers": celery_json(headers), "properties": celery_json(properties),
             "body": celery_json(body), "queue": queue}
        )  # fmt: skip
        return None


def _with_unique_key(task: NewTask, unique: dict[str, Any]) -> NewTask:
    key, policy, ttl = (unique.get(name) for name in UNIQUE_OPTIONS)
    if not isinstance(key, str) or not key or len(key) > LONGEST_KEY or "\0" in key:
        raise ValueError(f"unique_key must be a text of 1 to {LONGEST_KEY} characters")
    if policy is not None and policy not in POLICIES:
        raise ValueError(f"unique_policy must be one of {', '.join(POLICIES)}, not {policy!r}")
    seconds = None if ttl is None else float(ttl)
    if seconds is not None and not 0 < seconds <= LONGEST_TTL:
        raise ValueError(f"unique_ttl must be above 0 and at most {LONGEST_TTL} seconds")
    options = task.options or NewTaskOptions()
    return task._replace(options=options._replace(unique_key=key, unique_policy=policy, unique_ttl=seconds))
