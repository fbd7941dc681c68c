"""From a client's request to an accepted task, or to all tasks of a batch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from uuid import UUID

from ledgerq_api.auth.callers import Caller
from ledgerq_api.catalogue import Catalogue
from ledgerq_api.catalogue_source import CatalogueSource
from ledgerq_api.ledger import Ledger
from ledgerq_api.queues.naming import QueueNames
from ledgerq_api.requests.lean import encode
from ledgerq_api.requests.origin import origin
from ledgerq_api.tasks import schemas
from ledgerq_api.tasks.acceptance import Acceptance, Submission
from ledgerq_api.tasks.batches import Batches
from ledgerq_api.tasks.commits import Commits, Outcome
from ledgerq_api.tasks.drafts import draft
from ledgerq_shared.errors import InvalidRequest, NoTaskTypes, UnknownTaskType
from ledgerq_shared.ids import new_task_ids
from ledgerq_shared.languages import say
from ledgerq_shared.statements.idempotency import KeyedSubmit
from ledgerq_shared.statements.submit import NewTask

_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")


class Submitting:
    """The only way for a new task: it is drafted (by the latest catalogue if its type is new), gets its key, its queue
    is admitted, and it is accepted.
    """

    def __init__(self, ledger: Ledger, catalogue: CatalogueSource, commits: Commits, queues: QueueNames) -> None:
        self._ledger = ledger
        self._catalogue = catalogue
        self._commits = commits
        self._acceptance = Acceptance(commits)
        self._batches = Batches(commits)
        self._queues = queues

    async def submit(
        self, make: Callable[[Catalogue], NewTask], *, key: str | None = None, encoded: bytes = b""
    ) -> Outcome:
        """Accept a task; returns its id once it is committed, or the task that holds its unique key.

        Args:
            make: drafts the task; if it raises UnknownTaskType, it is called once more with the latest catalogue.
            key: an Idempotency-Key; with the same ``encoded`` body the first answer is given again.
        """
        catalogue = self._catalogue.known() or await self._catalogue.latest()
        try:
            task = make(catalogue)
        except (UnknownTaskType, NoTaskTypes):
            task = make(await self._catalogue.latest())
        keyed = None if key is None else _keyed(key, encoded, task)
        if task.queue not in self._queues.known:
            await self._queues.admit_tasks([task])
        return await self._acceptance.accept(Submission(task, keyed))

    async def submit_all(
        self, bodies: Sequence[schemas.SubmitBody], *, caller: Caller, key: str | None = None, encoded: bytes = b""
    ) -> bytes:
        """Accept all tasks or none; the answer, as JSON (a ``BatchAccepted``).

        Args:
            caller: who submits.
            key: an Idempotency-Key; with the same ``encoded`` body the first answer is given again.
        """
        if key is not None:
            _checked(key)
        catalogue = await self._catalogue.current()
        # Checked beforehand, so that ten thousand drafts are not made twice.
        if any(body.task_type not in catalogue.types for body in bodies):
            catalogue = await self._catalogue.latest()
        tasks = await self._ledger.in_thread(_draft_all, bodies, catalogue, caller, origin().text())
        keyed = None if key is None else _keyed(key, encoded, tasks[0])
        await self._queues.admit_tasks(tasks)
        return (await self._batches.accept(tasks, keyed, _batch_answer)).encode()

    async def close(self) -> None:
        """Wait for submits that have begun."""
        await self._acceptance.close()
        self._batches.close()
        self._commits.close()


def _batch_answer(outcomes: Sequence[Outcome]) -> str:
    items = [
        schemas.BatchItem(outcome) if isinstance(outcome, UUID) else schemas.BatchItem(outcome.id, outcome.state)
        for outcome in outcomes
    ]
    return encode(schemas.BatchAccepted(items, len(items))).decode()


def _draft_all(
    bodies: Sequence[schemas.SubmitBody], catalogue: Catalogue, caller: Caller, trace: str | None
) -> list[NewTask]:
    return [
        draft(body, catalogue, caller, f"#/tasks/{index}", task_id=task_id, trace=trace)
        for index, (body, task_id) in enumerate(zip(bodies, new_task_ids(len(bodies)), strict=True))
    ]


def _keyed(key: str, request: bytes, task: NewTask) -> KeyedSubmit:
    """The Idempotency-Key of a ``request`` that should create ``task``. Each API key has Idempotency-Keys of its own.

    Raises:
        InvalidRequest
    """
    return KeyedSubmit(_checked(key), hashlib.sha256(request).digest(), task.id, task.actor)


def _checked(key: str) -> str:
    """An Idempotency-Key that the ledger takes.

    Raises:
        InvalidRequest
    """
    if not _KEY.fullmatch(key):
        raise InvalidRequest(say("Idempotency-Key: 1 to 255 printable ASCII characters are allowed."))
    return key
