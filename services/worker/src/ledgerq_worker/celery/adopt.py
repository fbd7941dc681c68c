"""Adoption: messages that plain Celery producers sent become tasks of the ledger, and are then handled like any other
task.

These messages are in the list that has the queue's name. LedgerQ does not consume this list as Celery does, one message
at a time when a slot is free. Instead, a thread reads the oldest messages, lets the ledger accept them, and only then
removes them, in batches, whatever the pool does. So a message cannot be lost, and a backlog of any length delays no
ticket. To adopt a message twice changes nothing, because a task keeps its Celery id. Nodes take turns at a queue, but
this is no lock.

A message that cannot become a task is moved, unchanged, to the list ``ledgerq.refused:<queue>``.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice
from uuid import uuid4

import psycopg2
import structlog
from celery import Celery

from ledgerq_shared import outages, sqlstates
from ledgerq_shared.batching import Batcher
from ledgerq_shared.broker import DRAIN_TASK, TICKETS
from ledgerq_shared.errors import Unavailable
from ledgerq_shared.faults import Fault
from ledgerq_shared.redis_access import describe, note_failure, note_success
from ledgerq_shared.redis_faults import fault_of
from ledgerq_shared.statements.submit import NewTask
from ledgerq_worker.celery.messages import task_from_message
from ledgerq_worker.celery.plain_lists import PlainLists, PlainMessage
from ledgerq_worker.celery.seams.strangers import note
from ledgerq_worker.celery.sending import Submitter

log = structlog.get_logger()

#: One thread looks for a queue's messages; if there are more queues than this, a thread has several.
_MOST_THREADS = 8
#: Seconds that a thread with one queue waits for its next message; between two waits it looks for messages with a
#: priority.
_WAIT = 0.5
#: How often a thread with several queues looks at them, in seconds.
_READ_LISTS_EVERY = 0.1
#: Seconds until the next try while a store is away, or a list cannot be read.
_TRY_AGAIN_AFTER = 1.0
#: Messages of one batch, at first and at most; and about how many bytes are held in memory at once.
_FIRST_BATCH = 100
_MOST_AT_ONCE = 1000
_MOST_BYTES = 4_000_000
#: How many messages are read before the ledger gets the first of them.
_CHUNK = 250
_LONGEST_REASON = 500

#: Prefixes of tasks that the catalogue does not show; and those of these tasks that plain Celery sends for `map`,
#: `starmap`, `chunks`, and for a chord whose result backend cannot count its parts.
_INTERNAL = ("celery.", "ledgerq.")
_CANVAS = frozenset({"celery.map", "celery.starmap", "celery.chunks", "celery.accumulate", "celery.chord_unlock"})


class Adoption:
    """Adopts messages that arrive in the node's queues, in threads of its own.

    Args:
        app: whose messages these are.
        submitter: the way into the ledger.
        queues: the queues that the node serves.
        actor: who submits, for the event log.
    """

    def __init__(self, app: Celery, submitter: Submitter, queues: Sequence[str], *, actor: str) -> None:
        self._app = app
        self._submitter = submitter
        # Somebody may have given a queue the name of a list of tickets: the elements of that list are not messages.
        self._queues = [queue for queue in queues if not queue.startswith(TICKETS)]
        self._actor = actor
        self._ended = threading.Event()
        self._accepter = Batcher(self._accept, max_items=_MOST_AT_ONCE // _CHUNK, name="adoption")

    def start(self) -> None:
        """Start, in the process that is to adopt."""
        count = min(len(self._queues), _MOST_THREADS)
        for number in range(count):
            share = [_Queue(name) for name in self._queues[number::count]]
            name = f"adoption-{number}"
            threading.Thread(target=self._run, args=(share,), name=name, daemon=True).start()

    def stop(self) -> None:
        """Adopt no more messages after the present batch."""
        self._ended.set()

    def _run(self, share: list[_Queue]) -> None:
        while not self._ended.is_set():
            lists = PlainLists(self._app, [queue.name for queue in share])
            try:
                lists.open()
                while not self._ended.is_set():
                    self._look(lists, share)
                    note_success(writes=False)
            except Exception as error:  # whatever the transport raises
                if not note_failure(error):
                    log.warning("worker.adoption.broker_unavailable", error=describe(error))
                self._ended.wait(_TRY_AGAIN_AFTER)
            finally:
                lists.close()

    def _look(self, lists: PlainLists, share: list[_Queue]) -> None:
        """Adopt one batch of each queue; if there was none, wait for the next message."""
        progress = [self._adopt_from(lists, queue) for queue in share]
        if any(progress):
            return
        if len(share) > 1 or None in progress:
            self._ended.wait(_READ_LISTS_EVERY if len(share) > 1 else _TRY_AGAIN_AFTER)
        elif not lists.wait_for(share[0].name, _WAIT):
            self._ended.wait(_READ_LISTS_EVERY)

    def _adopt_from(self, lists: PlainLists, queue: _Queue) -> bool | None:
        """Adopt a batch; False if there is none, None if it is not available just now."""
        try:
            if not lists.have_messages(queue.name):
                return False
            if not lists.take_turn(queue.name, queue.token):
                return None
            found = lists.oldest(queue.name, queue.batch)
            queue.learn(found)
            self._adopt(lists, queue.name, found)
        except (Unavailable, psycopg2.Error) as error:
            outages.note("worker.message.not_adopted_yet", error, queue=queue.name)
            return None
        except Exception as error:
            if fault_of(error) not in (Fault.REFUSE, Fault.MISTAKE):
                raise
            if not queue.is_refused:  # logged once
                log.warning("worker.adoption.list_refused", queue=queue.name, error=describe(error))
            queue.is_refused = True
            return None
        return True

    def _adopt(self, lists: PlainLists, queue: str, found: Sequence[PlainMessage]) -> None:
        adopted: list[PlainMessage] = []
        tickets: list[PlainMessage] = []
        refused: list[PlainMessage] = []
        accepting: list[Future[list[BaseException | None]]] = []
        for start in range(0, len(found), _CHUNK):
            tasks: list[NewTask] = []
            for message in found[start : start + _CHUNK]:
                try:
                    name, headers, body = lists.read(message)
                    _check_name(name)
                    if name == DRAIN_TASK:  # from a process of a release before ticket lists
                        tickets.append(message)
                    else:
                        tasks.append(self._task(queue, message, name, headers, body))
                        adopted.append(message)
                except Exception as error:  # raised by anything that a stranger may have put into the list
                    self._refuse(queue, error)
                    refused.append(message)
            accepting.append(self._accepter.submit(tasks))  # the next messages are read while PostgreSQL works
        outcomes = [outcome for accepted in accepting for outcome in accepted.result()]
        blameless: BaseException | None = None
        waiting: list[PlainMessage] = []
        for message, outcome in zip(adopted, outcomes, strict=True):
            if outcome is None:
                continue
            if _is_refused(outcome):  # the ledger cannot hold it, however often it is tried
                self._refuse(queue, outcome)
                refused.append(message)
            else:  # the message is not at fault: it stays, and is tried again
                blameless = outcome
                waiting.append(message)
        if tickets:
            self._submitter.wake({queue: len(tickets)})
        others = {id(message) for message in (*refused, *waiting)}
        # Messages that the ledger has are removed whatever happens to their neighbours, so that those behind them get
        # their turn.
        lists.remove(queue, [message for message in found if id(message) not in others], refused=refused)
        if blameless:
            raise blameless

    def _accept(self, chunks: list[list[NewTask]]) -> list[list[BaseException | None]]:
        outcomes = iter(self._submitter.submit_all([task for chunk in chunks for task in chunk]))
        return [list(islice(outcomes, len(chunk))) for chunk in chunks]

    def _task(self, queue: str, message: PlainMessage, name: str, headers: dict[str, object], body: object) -> NewTask:
        # Kombu writes 0 if no priority was given, so in a message 0 means the default.
        properties = {**message.properties, "priority": message.properties.get("priority") or None}
        return task_from_message(
            name, headers, properties, body, queue=queue, actor=self._actor, timezone=self._app.timezone
        )

    @staticmethod
    def _refuse(queue: str, error: BaseException) -> None:
        note("message", f"{type(error).__name__}: {error}"[:_LONGEST_REASON], queue=queue)


def _check_name(name: str) -> None:
    """Refuse Celery's own tasks, except those that its canvas sends instead of users' tasks.

    Raises:
        ValueError
    """
    if name.startswith(_INTERNAL) and name not in _CANVAS and name != DRAIN_TASK:
        raise ValueError(f"{name} is Celery's or LedgerQ's own, and is not run as a task here")


def _is_refused(outcome: BaseException) -> bool:
    """Whether the ledger cannot hold this task, however often it is tried."""
    return not isinstance(outcome, Unavailable) and sqlstates.fault_of(outcome) is Fault.REFUSE


@dataclass
class _Queue:
    """What one thread knows about a queue."""

    name: str
    #: The value that shows that it is this thread's turn.
    token: str = field(default_factory=lambda: str(uuid4()))
    #: How many messages the next batch has.
    batch: int = _FIRST_BATCH
    #: Whether it was logged that the list cannot be read.
    is_refused: bool = False

    def learn(self, found: Sequence[PlainMessage]) -> None:
        """Adapt the size of the batch: few large messages at once, or many small ones."""
        self.is_refused = False
        size = sum(len(message.raw) for message in found)
        if size > _MOST_BYTES:
            self.batch = max(self.batch // 2, 1)
        elif len(found) == self.batch and size < _MOST_BYTES // 4:
            self.batch = min(self.batch * 2, _MOST_AT_ONCE)
