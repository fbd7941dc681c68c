"""Batches: all tasks of a client's batch are accepted, in a commit of their own, or none is."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import psycopg2

from ledgerq_api import metrics
from ledgerq_api.tasks.commits import Commits, Committed, Outcome, refused
from ledgerq_api.tasks.idempotency import reserve
from ledgerq_shared.errors import DuplicateTask, IdempotencyKeyReused, LedgerQError, OutcomeUnknown, ScopeMissing
from ledgerq_shared.faults import Fault
from ledgerq_shared.postgres.database import confirm, execute
from ledgerq_shared.postgres.sqlstates import fault_of
from ledgerq_shared.statements.idempotency import KeyedSubmit, keep_answer
from ledgerq_shared.statements.submit import NewTask
from ledgerq_shared.tasks.submitting import submit

#: How many batches are written at the same time: PostgreSQL writes one while the statement of another one is being
#: made.
_AT_ONCE = 2


class Batches:
    """Accepts batches."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits
        # Batches have threads of their own: a large batch must not make single submits wait, and single submits must
        # not make batches wait.
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="submit-batch")

    async def accept(
        self, tasks: Sequence[NewTask], key: KeyedSubmit | None, answer: Callable[[list[Outcome]], str]
    ) -> str:
        """Returns when all tasks are committed, together; raises if none is committed, or if the outcome is unknown.

        Args:
            key: an Idempotency-Key for all of them, with the id of the first.
            answer: makes the answer from the outcome of each task.

        Returns:
            The answer; the first one's if the Idempotency-Key was known.
        """
        loop = asyncio.get_running_loop()

        def work() -> str:
            with metrics.flush("batch", len(tasks)):
                return self._commits.made(
                    lambda are_new: self._commit(tasks, key, answer, are_new=are_new),
                    [] if key is None else [key],
                    lambda sent, keys, lost: (
                        self._commit(sent, next(iter(keys), None), answer, are_new=False, lost=lost).ready
                    ),
                )

        write = loop.run_in_executor(self._threads, work)
        try:
            return await asyncio.wait_for(asyncio.shield(write), self._commits.timeout * 3)
        except psycopg2.Error as error:
            if fault_of(error) is not Fault.REFUSE:
                raise
            raise refused(error) from None
        except TimeoutError:
            write.add_done_callback(lambda done: done.exception())
            raise OutcomeUnknown from None

    def close(self) -> None:
        """Wait for batches that have begun."""
        self._threads.shutdown(wait=False)

    def _commit(
        self,
        tasks: Sequence[NewTask],
        key: KeyedSubmit | None,
        answer: Callable[[list[Outcome]], str],
        *,
        are_new: bool,
        lost: Collection[UUID] = (),
    ) -> Committed[str]:
        with self._commits.transaction() as cursor:
            names, known_keys = reserve(cursor, {key.apart: key} if key is not None else {})
            if key is not None and (known := known_keys.get(key.apart)) is not None:
                if bytes(known.body_sha256) != key.body_sha256 or known.answer is None:
                    raise IdempotencyKeyReused
                confirm(cursor)
                return Committed(known.answer, Counter(), (), ())
            submitted = submit(cursor, tasks, are_new=are_new, lost=lost)
            outcomes: list[Outcome] = [task.id for task in tasks] if not submitted.others else []
            for index, task in enumerate(tasks if submitted.others else ()):
                other = submitted.others.get(task.id, task.id)
                if isinstance(other, DuplicateTask | ScopeMissing):
                    raise _placed(other, index)
                outcomes.append(other)
            text = answer(outcomes)
            if key is not None:
                execute(cursor, keep_answer(names[key.apart], text))
        return Committed(text, +submitted.ready, submitted.accepted(tasks), tasks)


def _placed(error: DuplicateTask | ScopeMissing, index: int) -> LedgerQError:
    """The error of one task of a batch, with its place."""
    pointer = f"#/tasks/{index}/unique_key"
    return type(error)(
        f"tasks/{index}: {error.detail}", **error.extra, errors=[{"detail": error.detail, "pointer": pointer}]
    )
