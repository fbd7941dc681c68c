"""Adoption: messages that plain Celery producers sent become tasks of the ledger, and are then handled like any other
task.

These messages are in the list that has the queue's name. LedgerQ does not consume this list as Celery does, one message
at a time when a slot is free. Instead, a thread reads the oldest messages, lets the ledger accept them, and only then
removes them, in batches, whatever the pool does. So a message cannot be lost, and a backlog of any length delays no
ticket. To adopt a message twice changes nothing, because a task keeps its Celery id, and its own id tells the delivery.
Nodes take turns at a queue, but this is no lock.

A message that cannot run becomes a task that has FAILED and says why, so that its sender hears of it; it is kept,
unchanged, in the list ``ledgerq.refused:<queue>``. A message whose id was revoked before becomes a REVOKED task.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import NamedTuple
from uuid import uuid4

import psycopg2
import structlog
from celery import Celery, signals

from ledgerq_shared import outages
from ledgerq_shared.broker import DRAIN_TASK, TICKETS
from ledgerq_shared.errors import Unavailable
from ledgerq_shared.faults import Fault
from ledgerq_shared.postgres import sqlstates
from ledgerq_shared.process.batching import Batcher
from ledgerq_shared.redis_access import describe, note_failure, note_success
from ledgerq_shared.redis_faults import fault_of
from ledgerq_shared.statements.submit import NewTask
from ledgerq_worker.celery import ended
from ledgerq_worker.celery.messages import task_from_message
from ledgerq_worker.celery.plain_lists import Content, Glimpse, PlainLists, PlainMessage
from ledgerq_worker.celery.seams.revocations import is_revoked
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
#: Prefixes of tasks that the catalogue does not show; and those of these tasks that plain Celery sends for `map`,
#: `starmap`, `chunks`, and for a chord whose result backend cannot count its parts.
_INTERNAL = ("celery.", "ledgerq.")
_CANVAS = frozenset(
    {"celery.map", "celery.starmap", "celery.chunks", "celery.accumulate", "celery.chord_unlock"}
    # Celery's beat sends it each night.
    | {"celery.backend_cleanup"}
)


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
        batch = _Batch()
        accepting: list[Future[list[BaseException | None]]] = []
        for start in range(0, len(found), _CHUNK):
            before = len(batch.adopted)
            for message in found[start : start + _CHUNK]:
                try:
                    self._read(lists, queue, message, batch)
                except Exception as error:  # raised by anything that a stranger may have put into the list
                    batch.refused.append((message, error))
            # The next messages are read while PostgreSQL works.
            accepting.append(self._accepter.submit([one.task for one in batch.adopted[before:]]))
        outcomes = [outcome for accepted in accepting for outcome in accepted.result()]
        for one, outcome in zip(batch.adopted, outcomes, strict=True):
            if outcome is None:
                if is_revoked(one.headers):  # meanwhile, when the ledger did not have it yet
                    batch.revoked.append(one)
            elif _is_refused(outcome):  # the ledger cannot hold it, however often it is tried
                batch.refused.append((one.message, outcome))
            else:
                batch.waits(one.message, outcome)
        if batch.revoked:
            self._end_revoked(batch)
        put_away = self._end_refused(lists, queue, batch) if batch.refused else []
        if batch.tickets:
            self._submitter.wake({queue: len(batch.tickets)})
        others = {id(message) for message in (*put_away, *batch.waiting)}
        # Messages that the ledger has are removed whatever happens to their neighbours, so that those behind them get
        # their turn.
        lists.remove(queue, [message for message in found if id(message) not in others], refused=put_away)
        if batch.blameless:
            raise batch.blameless

    def _read(self, lists: PlainLists, queue: str, message: PlainMessage, batch: _Batch) -> None:
        content = lists.read(message)
        _check_name(content.name)
        if content.name == DRAIN_TASK:  # from a process of a release before ticket lists
            batch.tickets.append(message)
            return
        one = _Adopted(message, self._task(queue, message, content), content.headers)
        (batch.revoked if is_revoked(content.headers) else batch.adopted).append(one)

    def _end_revoked(self, batch: _Batch) -> None:
        ends = [ended.revoked(one.task) for one in batch.revoked]
        outcomes = self._submitter.submit_ended(ends, actor=self._actor)
        for one, outcome in zip(batch.revoked, outcomes, strict=True):
            if outcome is not None:
                batch.waits(one.message, outcome)

    def _end_refused(self, lists: PlainLists, queue: str, batch: _Batch) -> list[PlainMessage]:
        """Let refused messages be tasks that have failed; returns those messages that are to be put away."""
        seen = [lists.glimpse(message) for message, _ in batch.refused]
        make = partial(ended.refused, queue=queue, actor=self._actor)
        ends = [make(glimpse, error) for glimpse, (_, error) in zip(seen, batch.refused, strict=True)]
        outcomes = self._submitter.submit_ended(ends, actor=self._actor)
        put_away: list[PlainMessage] = []
        for glimpse, (message, error), first in zip(seen, batch.refused, outcomes, strict=True):
            outcome = first
            if outcome is not None and _is_refused(outcome):  # even what is known of it
                [outcome] = self._submitter.submit_ended([make(Glimpse(), error)], actor=self._actor)
            if outcome is not None and not _is_refused(outcome):
                batch.waits(message, outcome)
                continue
            note("message", ended.reason_of(error), queue=queue)
            signals.task_rejected.send(sender=self._app, message=glimpse.message, exc=error)
            put_away.append(message)
        return put_away

    def _accept(self, chunks: list[list[NewTask]]) -> list[list[BaseException | None]]:
        outcomes = iter(self._submitter.submit_all([task for chunk in chunks for task in chunk]))
        return [list(islice(outcomes, len(chunk))) for chunk in chunks]

    def _task(self, queue: str, message: PlainMessage, content: Content) -> NewTask:
        # Kombu writes 0 if no priority was given, so in a message 0 means the default.
        properties = {**message.properties, "priority": message.properties.get("priority") or None}
        return task_from_message(
            content.name,
            content.headers,
            properties,
            content.body,
            queue=queue,
            actor=self._actor,
            timezone=self._app.timezone,
            delivery=message.delivery,
            arguments=content.arguments,
        )


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


class _Adopted(NamedTuple):
    """A message that is a task."""

    message: PlainMessage
    task: NewTask
    headers: dict[str, object]


class _Batch:
    """The messages that were read at once, by what becomes of them."""

    def __init__(self) -> None:
        self.adopted: list[_Adopted] = []
        self.revoked: list[_Adopted] = []
        self.refused: list[tuple[PlainMessage, BaseException]] = []
        self.tickets: list[PlainMessage] = []
        #: These stay and are tried again: they are not at fault.
        self.waiting: list[PlainMessage] = []
        self.blameless: BaseException | None = None

    def waits(self, message: PlainMessage, why: BaseException) -> None:
        """Note that a message stays, and why."""
        self.waiting.append(message)
        self.blameless = why


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
