"""Group commit: all submits that arrive while one commit is under way share the next one."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID

import psycopg2

from ledgerq_api import metrics
from ledgerq_api.auth.callers import ANYBODY
from ledgerq_api.ledger import Deadline, no_answer
from ledgerq_api.tasks.recent import Again, Recent
from ledgerq_shared import outages
from ledgerq_shared.batching import AsyncBatcher
from ledgerq_shared.database import Cursor, Database, confirm, execute
from ledgerq_shared.errors import (
    DuplicateTask,
    IdempotencyKeyReused,
    InvalidRequest,
    LedgerQError,
    LedgerUnavailable,
    OutcomeUnknown,
    ScopeMissing,
    Unavailable,
)
from ledgerq_shared.faults import Fault
from ledgerq_shared.repeating import until_known
from ledgerq_shared.sqlstates import fault_of
from ledgerq_shared.statements.submit import (
    KeyedSubmit,
    KnownKey,
    NewTask,
    find_keys,
    keep_answer,
    keep_beside,
    redirect_keys,
    reserve_keys,
)
from ledgerq_shared.states import State
from ledgerq_shared.submitting import Existing, submit
from ledgerq_shared.waking import Waker

T = TypeVar("T")

_MOST_ITEMS = 1000

#: Batch submits that are written at the same time.
_BATCHES = 2

#: Parameters per statement, in characters: a thousand tasks with a megabyte each must not become one string.
_MOST_CHARACTERS = 8 * 1024 * 1024

#: Each further look means that an Idempotency-Key was forgotten between two statements.
_LOOKS = 10

#: Seconds for which a submit that PostgreSQL refuses for a while, or whose commit was interrupted, is sent again.
_RESEND_FOR = 4.0


class _Committed(NamedTuple, Generic[T]):
    """One transaction."""

    outcome: T
    #: By queue: how many tasks may run now.
    ready: Counter[str]
    #: Tasks that are in the ledger by it.
    tasks: Sequence[NewTask]
    #: All that were sent, also those that have become no tasks.
    sent: Sequence[NewTask]


#: What a submit comes to: the id of its task, which is the first one's where its Idempotency-Key was known; or the task
#: that holds its unique key.
Outcome = UUID | Existing


@dataclass(slots=True, eq=False)
class Submission:
    """A task on its way into the ledger."""

    task: NewTask
    key: KeyedSubmit | None = None
    #: Its statement may have been sent: from here on nobody can say "nothing was recorded".
    is_begun: bool = False
    #: Its caller was told that nothing was recorded: from here on nothing may be.
    is_abandoned: bool = False


class Acceptance:
    """Takes tasks into the ledger.

    Args:
        timeout: seconds after which a caller is answered whatever PostgreSQL does.
        resend_seconds: for so long what was accepted is kept, to be sent again if the ledger goes back in time.
    """

    def __init__(self, database: Database, waker: Waker, *, timeout: float, resend_seconds: float = 0.0) -> None:
        self._database = database
        self._waker = waker
        self._timeout = timeout
        self._lock = threading.Lock()
        # Threads of their own: a large batch must not make single submits wait, nor the reverse. Batches have two, so that
        # PostgreSQL writes the one while the other's statement is being made.
        self._singles = ThreadPoolExecutor(1, thread_name_prefix="submit")
        self._batches = ThreadPoolExecutor(_BATCHES, thread_name_prefix="submit-batch")
        self._batcher: AsyncBatcher[Submission, Outcome] = AsyncBatcher(
            self._flush, max_items=_MOST_ITEMS, executor=self._singles
        )
        self._deadline = Deadline(timeout, self._give_up)
        self._recent = Recent(database, waker.wake, seconds=resend_seconds)

    def accept(self, submission: Submission) -> asyncio.Future[Outcome]:
        """Done when the task is committed.

        Raises:
            LedgerUnavailable: nothing was recorded.
            OutcomeUnknown: it may have been.
            IdempotencyKeyReused: the key belongs to another body.
            DuplicateTask: the unique key is taken.
            ScopeMissing: it is taken by another actor's task, which would have to end.
        """
        return self._deadline.watch(self._batcher.submit(submission), submission)

    async def accept_all(
        self, tasks: Sequence[NewTask], key: KeyedSubmit | None, answer: Callable[[list[Outcome]], str]
    ) -> str:
        """Done when all tasks are committed, together; raises when none is, or when nobody can tell.

        Args:
            key: an Idempotency-Key for all of them, with the id of the first.
            answer: makes the answer from what each task came to.

        Returns:
            The answer; the first one's if the Idempotency-Key was known.
        """
        loop = asyncio.get_running_loop()

        def work() -> str:
            with metrics.flush("batch", len(tasks)):
                return self._committed(
                    lambda are_new: self._commit_batch(tasks, key, answer, are_new=are_new),
                    [] if key is None else [key],
                    lambda sent, keys, lost: (
                        self._commit_batch(sent, next(iter(keys), None), answer, are_new=False, lost=lost).ready
                    ),
                )

        write = loop.run_in_executor(self._batches, work)
        try:
            return await asyncio.wait_for(asyncio.shield(write), self._timeout * 3)
        except psycopg2.Error as error:
            if fault_of(error) is not Fault.REFUSE:
                raise
            raise _refused(error) from None
        except TimeoutError:
            write.add_done_callback(lambda done: done.exception())
            raise OutcomeUnknown from None

    async def close(self) -> None:
        """Let what has begun end."""
        await self._batcher.close()
        self._recent.close()
        self._singles.shutdown(wait=False)
        self._batches.shutdown(wait=False)

    def _give_up(self, submission: Submission) -> Exception:
        with self._lock:
            if submission.is_begun:
                return OutcomeUnknown()
            submission.is_abandoned = True
            return no_answer(self._timeout)

    def _flush(self, submissions: list[Submission]) -> list[Outcome | BaseException]:
        outcomes: dict[UUID, Outcome | BaseException] = {}
        for chunk in _chunks(submissions):
            try:
                outcomes |= self._write(chunk)
            except Unavailable as error:
                # Only this chunk's: those before it are committed.
                outcomes |= _same(error, chunk)
            except psycopg2.Error as error:
                if fault_of(error) is not Fault.REFUSE:
                    outcomes |= _same(error, chunk)  # it concerns all: there is nobody to find
                elif len(submissions) > 1:
                    raise  # the batcher finds out whose fault it is; what is committed is not written again
                else:
                    outcomes |= _same(_refused(error), chunk)
        return [outcomes[submission.task.id] for submission in submissions]

    def _write(self, submissions: Sequence[Submission]) -> dict[UUID, Outcome | BaseException]:
        """Commit; one outcome per submission, by its task's id. What was sent into an interrupted commit is sent
        again, under the same ids, until the answer is known.
        """
        with self._lock:
            # Of a flush that failed, a part may be committed before its rest comes here again.
            are_new = not any(submission.is_begun for submission in submissions)
            for submission in submissions:
                submission.is_begun = not submission.is_abandoned
        wanted = [submission for submission in submissions if submission.is_begun]
        outcomes: Mapping[UUID, Outcome | BaseException] = {}
        if wanted:
            with metrics.flush("submit", len(wanted)):
                outcomes = self._committed(
                    lambda is_first: self._commit(wanted, are_new=are_new and is_first),
                    [item.key for item in wanted if item.key],
                    self._commit_again,
                )
        return {item.task.id: outcomes.get(item.task.id, _ABANDONED) for item in submissions}

    def _commit_again(
        self, tasks: Sequence[NewTask], keys: Sequence[KeyedSubmit], lost: Collection[UUID]
    ) -> Counter[str]:
        keyed = {key.task_id: key for key in keys}
        return self._commit([Submission(task, keyed.get(task.id)) for task in tasks], are_new=False, lost=lost).ready

    def _committed(self, commit: Callable[[bool], _Committed[T]], keys: Sequence[KeyedSubmit], again: Again) -> T:
        """What ``commit`` comes to; it is told whether none of its tasks can be in the ledger.

        Args:
            keys, again: as :meth:`Recent.keep` takes them.
        """
        committed = until_known(lambda is_repeated: commit(not is_repeated), seconds=_RESEND_FOR)
        if outages.POSTGRESQL_WRITES.is_on:
            outages.POSTGRESQL_WRITES.worked()
        self._waker.wake(committed.ready)
        self._recent.keep(committed.tasks, committed.sent, keys, again)
        return committed.outcome

    def _commit(
        self, submissions: Sequence[Submission], *, are_new: bool, lost: Collection[UUID] = ()
    ) -> _Committed[Mapping[UUID, Outcome | BaseException]]:
        with self._database.transaction(timeout=self._timeout) as cursor:
            outcomes, names = _claim_keys(cursor, [(item.task.id, item.key) for item in submissions if item.key])
            tasks = [item.task for item in submissions if item.task.id not in outcomes]
            submitted = submit(cursor, tasks, are_new=are_new, lost=lost)
            if submitted.others:
                _redirect(cursor, submissions, submitted.others, names)
            if outcomes:
                confirm(cursor)
        final: dict[UUID, Outcome | BaseException] = {item.task.id: item.task.id for item in submissions}
        final.update(submitted.others)
        # A repeated Idempotency-Key gets what the first submission has got, perhaps in this very flush.
        final.update(
            (task_id, submitted.others.get(outcome, outcome) if isinstance(outcome, UUID) else outcome)
            for task_id, outcome in outcomes.items()
        )
        sent = [item.task for item in submissions] if len(tasks) < len(submissions) else tasks
        return _Committed(final, +submitted.ready, submitted.accepted(tasks), sent)

    def _commit_batch(
        self,
        tasks: Sequence[NewTask],
        key: KeyedSubmit | None,
        answer: Callable[[list[Outcome]], str],
        *,
        are_new: bool,
        lost: Collection[UUID] = (),
    ) -> _Committed[str]:
        with self._database.transaction(timeout=self._timeout) as cursor:
            name, known = _reserve(cursor, [key])[key.apart] if key is not None else ("", None)
            if key is not None and known is not None:
                if bytes(known.body_sha256) != key.body_sha256 or known.answer is None:
                    raise IdempotencyKeyReused
                confirm(cursor)
                return _Committed(known.answer, Counter(), (), ())
            submitted = submit(cursor, tasks, are_new=are_new, lost=lost)
            outcomes: list[Outcome] = [task.id for task in tasks] if not submitted.others else []
            for index, task in enumerate(tasks if submitted.others else ()):
                other = submitted.others.get(task.id, task.id)
                if isinstance(other, DuplicateTask | ScopeMissing):
                    raise _placed(other, index)
                outcomes.append(other)
            text = answer(outcomes)
            if key is not None:
                execute(cursor, keep_answer(name, text))
        return _Committed(text, +submitted.ready, submitted.accepted(tasks), tasks)


def _redirect(
    cursor: Cursor,
    submissions: Sequence[Submission],
    others: Mapping[UUID, Existing | DuplicateTask | ScopeMissing],
    names: Mapping[str, str],
) -> None:
    """Let the Idempotency-Keys of submissions that made no task stand for what they got instead."""
    moved = {
        names[item.key.apart]: (other.id, other.state.value) if isinstance(other, Existing) else None
        for item in submissions
        if item.key is not None and (other := others.get(item.task.id)) is not None
    }
    if moved:
        execute(cursor, redirect_keys(moved))


def _placed(error: DuplicateTask | ScopeMissing, index: int) -> LedgerQError:
    """The error of one task of a batch, with its place."""
    pointer = f"#/tasks/{index}/unique_key"
    return type(error)(
        f"tasks/{index}: {error.detail}", **error.extra, errors=[{"detail": error.detail, "pointer": pointer}]
    )


def _refused(error: psycopg2.Error) -> InvalidRequest:
    """What the checks at the edge let pass and PostgreSQL does not is still the client's to change."""
    return InvalidRequest(f"PostgreSQL cannot hold this task: {error.diag.message_primary}.")


_ABANDONED = LedgerUnavailable()


def _same(error: BaseException, submissions: Sequence[Submission]) -> dict[UUID, Outcome | BaseException]:
    return {submission.task.id: error for submission in submissions}


def _reserve(cursor: Cursor, keys: Sequence[KeyedSubmit]) -> dict[str, tuple[str, KnownKey | None]]:
    """Take Idempotency-Keys: by :attr:`KeyedSubmit.apart`, the name under which each lies now; and, of those that were
    used before by the same owner, what is known of them.
    """
    found: dict[str, tuple[str, KnownKey | None]] = {}
    apart: list[KeyedSubmit] = []
    for _ in range(_LOOKS):
        won = {(name, owner) for name, owner in execute(cursor, reserve_keys(keys))} if keys else set()
        beside = {name for name, _ in execute(cursor, reserve_keys(apart, apart=True))} if apart else set()
        found |= {key.apart: (key.key, None) for key in keys if (key.key, key.owner) in won}
        found |= {name: (name, None) for name in beside}
        lost = [key for key in (*keys, *apart) if key.apart not in found]
        if not lost:
            return found
        rows = {row.key: row for row in map(KnownKey._make, execute(cursor, find_keys(lost)))}
        strangers: list[KeyedSubmit] = []
        for key in lost:
            row = rows.get(key.apart) or rows.get(key.key)
            if row is not None and _is_of(row, key):
                found[key.apart] = (row.key, row)
            elif row is not None:
                strangers.append(key)
        # One that was somebody's a moment ago and is nobody's now was forgotten in between: it may be taken.
        names = [key.key for key in strangers]
        kept = {name for (name,) in execute(cursor, keep_beside(names))} if names else set()
        apart = [key for key in strangers if key.key in kept]
        keys = [key for key in lost if key.apart not in found and key.key not in kept]
        if not keys and not apart:
            return found
    raise LedgerUnavailable("The Idempotency-Key comes and goes too fast just now; try again.", is_busy=True)


def _is_of(row: KnownKey, key: KeyedSubmit) -> bool:
    """Whether a row that has the key's name is its owner's. What was submitted while nobody needed a key is of whoever
    repeats it.
    """
    if row.key == key.apart or row.owner == key.owner:
        return True
    return row.owner in {None, ANYBODY} and bytes(row.body_sha256) == key.body_sha256


def _claim_keys(
    cursor: Cursor, keyed: Sequence[tuple[UUID, KeyedSubmit]]
) -> tuple[dict[UUID, Outcome | BaseException], dict[str, str]]:
    """Outcomes of the submissions whose Idempotency-Key was used before: its task, or a refusal; and the names under
    which the keys lie, by :attr:`KeyedSubmit.apart`.
    """
    if not keyed:
        return {}, {}
    owners: dict[str, KeyedSubmit] = {}
    for _, key in keyed:
        owners.setdefault(key.apart, key)
    found: dict[str, Existing] = {}
    names: dict[str, str] = {}
    for own, (name, known) in _reserve(cursor, list(owners.values())).items():
        names[own] = name
        if known is not None:
            owners[own] = KeyedSubmit(name, bytes(known.body_sha256), UUID(str(known.task_id)))
            if known.answer in set(State):  # else a batch's answer, whose body is another
                found[own] = Existing(owners[own].task_id, State(known.answer))
    outcomes: dict[UUID, Outcome | BaseException] = {}
    for task_id, key in keyed:
        owner = owners[key.apart]
        if owner.body_sha256 != key.body_sha256:
            outcomes[task_id] = IdempotencyKeyReused()
        elif owner.task_id != task_id:
            outcomes[task_id] = found.get(key.apart, owner.task_id)
    return outcomes, names


def _chunks(submissions: Sequence[Submission]) -> Iterator[Sequence[Submission]]:
    """What is written in one transaction each: not too much, and of one actor where tasks may end only their actor's own."""
    groups: dict[str, list[Submission]] = {"": list(submissions)}
    if any(item.task.options is not None and item.task.options.ends_own for item in submissions):
        groups = {}
        for item in submissions:
            groups.setdefault(item.task.actor, []).append(item)
    for group in groups.values():
        yield from _pieces(group)


def _pieces(submissions: Sequence[Submission]) -> Iterator[Sequence[Submission]]:
    start, size = 0, 0
    for index, submission in enumerate(submissions):
        size += len(submission.task.parameters)
        if size > _MOST_CHARACTERS and index > start:
            yield submissions[start:index]
            start, size = index, len(submission.task.parameters)
    yield submissions[start:]
