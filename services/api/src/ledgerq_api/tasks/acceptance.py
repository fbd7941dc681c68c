"""Group commit: all submits that arrive while one commit is under way share the next one."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from uuid import UUID

import psycopg2

from ledgerq_api.ledger import Deadline, no_answer
from ledgerq_api.wakeups import Wakeups
from ledgerq_shared.batching import AsyncBatcher
from ledgerq_shared.database import Database, execute, type_cursor
from ledgerq_shared.errors import (
    IdempotencyKeyReused,
    InvalidRequest,
    LedgerUnavailable,
    OutcomeUnknown,
    Unavailable,
)
from ledgerq_shared.statements.submit import KeyedSubmit, NewTask, find_keys, reserve_keys, submit_tasks

_MOST_ITEMS = 1000

#: Parameters per statement, in characters: a thousand tasks with a megabyte each must not become one string.
_MOST_CHARACTERS = 8 * 1024 * 1024

#: Seconds for which a submit whose commit was interrupted is sent again, and the pause between two attempts.
_RESEND_FOR = 4.0
_RESEND_PAUSE = 0.2


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
    """

    def __init__(self, database: Database, wakeups: Wakeups, *, timeout: float) -> None:
        self._database = database
        self._wakeups = wakeups
        self._timeout = timeout
        self._lock = threading.Lock()
        # A thread each: a large batch must not make single submits wait, nor the reverse.
        self._singles = ThreadPoolExecutor(1, thread_name_prefix="submit")
        self._batches = ThreadPoolExecutor(1, thread_name_prefix="submit-batch")
        self._batcher: AsyncBatcher[Submission, UUID] = AsyncBatcher(
            self._flush, max_items=_MOST_ITEMS, executor=self._singles
        )
        self._deadline = Deadline(timeout, self._give_up)

    def accept(self, submission: Submission) -> asyncio.Future[UUID]:
        """Done when the task is committed. Its id is another than the submission's if the Idempotency-Key
        was known.

        Raises:
            LedgerUnavailable: nothing was recorded.
            OutcomeUnknown: it may have been.
            IdempotencyKeyReused: the key belongs to another body.
        """
        return self._deadline.watch(self._batcher.submit(submission), submission)

    async def accept_all(self, tasks: Sequence[NewTask]) -> None:
        """Done when all tasks are committed, together; raises when none is, or when nobody can tell."""
        loop = asyncio.get_running_loop()
        write = loop.run_in_executor(self._batches, self._write, [Submission(task) for task in tasks])
        try:
            await asyncio.wait_for(asyncio.shield(write), self._timeout * 3)
        except psycopg2.DataError as error:
            raise _refused(error) from None
        except TimeoutError:
            write.add_done_callback(lambda done: done.exception())
            raise OutcomeUnknown from None

    async def close(self) -> None:
        """Let what has begun end."""
        await self._batcher.close()
        self._singles.shutdown(wait=False)
        self._batches.shutdown(wait=False)

    def _give_up(self, submission: Submission) -> Exception:
        with self._lock:
            if submission.is_begun:
                return OutcomeUnknown()
            submission.is_abandoned = True
            return no_answer(self._timeout)

    def _flush(self, submissions: list[Submission]) -> list[UUID | BaseException]:
        outcomes: list[UUID | BaseException] = []
        for chunk in _chunks(submissions):
            try:
                outcomes += self._write(chunk)
            except Unavailable as error:
                # Only this chunk's: those before it are committed.
                outcomes += [error] * len(chunk)
            except psycopg2.DataError as error:
                if len(submissions) > 1:
                    raise  # the batcher finds out whose fault it is; what is committed is not written again
                outcomes.append(_refused(error))
        return outcomes

    def _write(self, submissions: Sequence[Submission]) -> list[UUID | BaseException]:
        """Commit; one outcome per submission. What was sent into an interrupted commit is sent again, under
        the same ids, until the answer is known.
        """
        with self._lock:
            for submission in submissions:
                submission.is_begun = not submission.is_abandoned
        wanted = [submission for submission in submissions if submission.is_begun]
        outcomes = self._commit_until_known(wanted) if wanted else {}
        return [outcomes.get(submission.task.id, _ABANDONED) for submission in submissions]

    def _commit_until_known(self, submissions: Sequence[Submission]) -> dict[UUID, UUID | BaseException]:
        give_up_at = time.monotonic() + _RESEND_FOR
        is_unknown = False
        tries = 0
        while True:
            tries += 1
            try:
                outcomes, ready = self._commit(submissions)
            except OutcomeUnknown:
                is_unknown = True
            except LedgerUnavailable:
                # The first failure may be an idle connection that died; a second one is an outage.
                if not is_unknown and tries > 1:
                    raise
            else:
                self._wakeups.send(ready)
                return outcomes
            if time.monotonic() > give_up_at:
                raise OutcomeUnknown
            if tries > 1:
                time.sleep(_RESEND_PAUSE)

    def _commit(self, submissions: Sequence[Submission]) -> tuple[dict[UUID, UUID | BaseException], Counter[str]]:
        with self._database.transaction(timeout=self._timeout) as cursor:
            outcomes = _claim_keys(cursor, [(item.task.id, item.key) for item in submissions if item.key])
            new = [submission.task for submission in submissions if submission.task.id not in outcomes]
            rows = execute(cursor, submit_tasks(new)) if new else []
        outcomes.update((task.id, task.id) for task in new)
        return outcomes, Counter(queue for _, queue, is_ready in rows if is_ready)


def _refused(error: psycopg2.DataError) -> InvalidRequest:
    """What the checks at the edge let pass and PostgreSQL does not is still the client's to change."""
    return InvalidRequest(f"PostgreSQL cannot hold this task: {error.diag.message_primary}.")


_ABANDONED = LedgerUnavailable()


def _claim_keys(cursor: type_cursor, keyed: Sequence[tuple[UUID, KeyedSubmit]]) -> dict[UUID, UUID | BaseException]:
    """Outcomes of the submissions whose Idempotency-Key is somebody else's: its task, or a refusal."""
    if not keyed:
        return {}
    owners: dict[str, KeyedSubmit] = {}
    for _, key in keyed:
        owners.setdefault(key.key, key)
    won = {name for (name,) in execute(cursor, reserve_keys(list(owners.values())))}
    lost = [name for name in owners if name not in won]
    for name, sha, owner_id in execute(cursor, find_keys(lost)) if lost else ():
        owners[name] = KeyedSubmit(name, bytes(sha), UUID(str(owner_id)))
    outcomes: dict[UUID, UUID | BaseException] = {}
    for task_id, key in keyed:
        owner = owners[key.key]
        if owner.body_sha256 != key.body_sha256:
            outcomes[task_id] = IdempotencyKeyReused()
        elif owner.task_id != task_id:
            outcomes[task_id] = owner.task_id
    return outcomes


def _chunks(submissions: Sequence[Submission]) -> Iterator[Sequence[Submission]]:
    start, size = 0, 0
    for index, submission in enumerate(submissions):
        size += len(submission.task.parameters)
        if size > _MOST_CHARACTERS and index > start:
            yield submissions[start:index]
            start, size = index, len(submission.task.parameters)
    yield submissions[start:]
