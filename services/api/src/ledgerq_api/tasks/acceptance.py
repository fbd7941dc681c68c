"""Group commit: all submits that arrive while a commit is running share the next one."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from uuid import UUID

import psycopg2

from ledgerq_api import metrics
from ledgerq_api.ledger import Deadline, no_answer
from ledgerq_api.tasks.commits import Commits, Committed, Outcome, refused
from ledgerq_api.tasks.idempotency import find_repeats, redirect
from ledgerq_shared.errors import LedgerUnavailable, OutcomeUnknown, Unavailable
from ledgerq_shared.faults import Fault
from ledgerq_shared.postgres.database import confirm
from ledgerq_shared.postgres.sqlstates import fault_of
from ledgerq_shared.process.batching import AsyncBatcher
from ledgerq_shared.statements.idempotency import KeyedSubmit
from ledgerq_shared.statements.submit import NewTask
from ledgerq_shared.tasks.submitting import submit

_MOST_ITEMS = 1000

#: How many characters of parameters one statement may have: a thousand tasks with a megabyte each must not become one
#: string.
_MOST_CHARACTERS = 8 * 1024 * 1024


@dataclass(slots=True, eq=False)
class Submission:
    """A task on its way into the ledger."""

    task: NewTask
    key: KeyedSubmit | None = None
    #: Whether its statement may have been sent: from then on nobody can say "nothing was recorded".
    is_begun: bool = False
    #: Whether its caller was told that nothing was recorded: from then on nothing may be recorded.
    is_abandoned: bool = False


class Acceptance:
    """Accepts tasks that come one by one."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="submit")
        self._batcher: AsyncBatcher[Submission, Outcome] = AsyncBatcher(
            self._flush, max_items=_MOST_ITEMS, executor=self._thread
        )
        self._deadline = Deadline(commits.timeout, self._give_up)

    def accept(self, submission: Submission) -> asyncio.Future[Outcome]:
        """Returns when the task is committed.

        Raises:
            LedgerUnavailable: nothing was recorded.
            OutcomeUnknown: the task may have been recorded.
            IdempotencyKeyReused: the key belongs to another body.
            DuplicateTask: the unique key is taken.
            ScopeMissing: another actor's task, which would have to end, has the unique key.
        """
        return self._deadline.watch(self._batcher.submit(submission), submission)

    async def close(self) -> None:
        """Wait for commits that have begun."""
        await self._batcher.close()
        self._thread.shutdown(wait=False)

    def _give_up(self, submission: Submission) -> Exception:
        with self._lock:
            if submission.is_begun:
                return OutcomeUnknown()
            submission.is_abandoned = True
            return no_answer(self._commits.timeout)

    def _flush(self, submissions: list[Submission]) -> list[Outcome | BaseException]:
        outcomes: dict[UUID, Outcome | BaseException] = {}
        for chunk in _chunks(submissions):
            try:
                outcomes |= self._write(chunk)
            except Unavailable as error:
                # Only for this chunk: the chunks before it are committed.
                outcomes |= _same(error, chunk)
            except psycopg2.Error as error:
                if fault_of(error) is not Fault.REFUSE:
                    outcomes |= _same(error, chunk)  # the error concerns all, so no single one is at fault
                elif len(submissions) > 1:
                    raise  # the batcher finds out which one is at fault; committed tasks are not written again
                else:
                    outcomes |= _same(refused(error), chunk)
        return [outcomes[submission.task.id] for submission in submissions]

    def _write(self, submissions: Sequence[Submission]) -> dict[UUID, Outcome | BaseException]:
        """Commit; returns one outcome per submission, by its task's id."""
        with self._lock:
            # If a flush failed, a part of it may be committed before the rest comes here again.
            are_new = not any(submission.is_begun for submission in submissions)
            for submission in submissions:
                submission.is_begun = not submission.is_abandoned
        wanted = [submission for submission in submissions if submission.is_begun]
        outcomes: Mapping[UUID, Outcome | BaseException] = {}
        if wanted:
            with metrics.flush("submit", len(wanted)):
                outcomes = self._commits.made(
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

    def _commit(
        self, submissions: Sequence[Submission], *, are_new: bool, lost: Collection[UUID] = ()
    ) -> Committed[Mapping[UUID, Outcome | BaseException]]:
        keyed = [(item.task.id, item.key) for item in submissions if item.key]
        with self._commits.transaction() as cursor:
            outcomes, names = find_repeats(cursor, keyed)
            tasks = [item.task for item in submissions if item.task.id not in outcomes]
            submitted = submit(cursor, tasks, are_new=are_new, lost=lost)
            if submitted.others:
                redirect(cursor, keyed, submitted.others, names)
            if outcomes:
                confirm(cursor)
        final: dict[UUID, Outcome | BaseException] = {item.task.id: item.task.id for item in submissions}
        final.update(submitted.others)
        # A repeated Idempotency-Key gets the outcome of the first submission, perhaps of the same flush.
        final.update(
            (task_id, submitted.others.get(outcome, outcome) if isinstance(outcome, UUID) else outcome)
            for task_id, outcome in outcomes.items()
        )
        sent = [item.task for item in submissions] if len(tasks) < len(submissions) else tasks
        return Committed(final, +submitted.ready, submitted.accepted(tasks), sent)


_ABANDONED = LedgerUnavailable()


def _same(error: BaseException, submissions: Sequence[Submission]) -> dict[UUID, Outcome | BaseException]:
    return {submission.task.id: error for submission in submissions}


def _chunks(submissions: Sequence[Submission]) -> Iterator[Sequence[Submission]]:
    """The submissions in parts, each for one transaction: a part is not too large, and has one actor if its tasks may
    end only their own actor's tasks.
    """
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
