"""Runs tasks in the calling process, by the worker's own runner and recorder, on a real ledger.

Nothing waits: retries, countdowns and ETAs are due at once. There is no pool, no lease agent and no maintenance, so
hard time limits and deaths of workers are not to be had here.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from uuid import UUID, uuid4

from celery import Celery
from redis import Redis

from ledgerq_api.answers.problems import from_msgspec
from ledgerq_api.auth.callers import NOBODY_IN_PARTICULAR
from ledgerq_api.catalogue import Catalogue, build
from ledgerq_api.tasks.drafts import draft
from ledgerq_api.tasks.schemas import decode_submit
from ledgerq_shared.embedded.servers import Urls
from ledgerq_shared.errors import DuplicateTask, ScopeMissing, TaskNotFound
from ledgerq_shared.languages import say
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.redis_access import celery_result_backend
from ledgerq_shared.settings import StoreSettings
from ledgerq_shared.statements.catalogue import read_catalogue
from ledgerq_shared.statements.claim import ClaimedTask, claim_tasks
from ledgerq_shared.statements.dispatch import promote_due
from ledgerq_shared.statements.read_task import find_task, read_events, read_task
from ledgerq_shared.statements.workers import register_worker
from ledgerq_shared.tasks.submitting import submit
from ledgerq_testing.outcomes import Outcome, Progress, outcome_of
from ledgerq_testing.statements import empty, let_none_wait, queues_with_work, tables_to_empty
from ledgerq_worker.catalogue.registry import task_types
from ledgerq_worker.catalogue.task_modules import make_importable
from ledgerq_worker.celery import client
from ledgerq_worker.celery.app import build_app, limits_belong_to_tasks
from ledgerq_worker.celery.outbox import Outbox
from ledgerq_worker.celery.results import Publisher
from ledgerq_worker.celery.seams.backend import install_backend
from ledgerq_worker.celery.sending import Submitter
from ledgerq_worker.drain.recorder import Recorder
from ledgerq_worker.drain.runner import Runner
from ledgerq_worker.registering import write_catalogue
from ledgerq_worker.slot.ends import Failed
from ledgerq_worker.slot.legs import Leg
from ledgerq_worker.slot.table import SlotTable
from ledgerq_worker.slot.tally import TallySheet
from ledgerq_worker.stores import Stores

#: The node's name in histories.
_NAME = "test"
_SLOT = 0
#: Seconds for which the node has its lease: longer than any test session.
_LEASE = 7 * 86_400.0
#: A task with more attempts in one test never ends by itself.
_MOST_ATTEMPTS = 100
_MOST_EVENTS = 1_000_000


class EndlessRetries(AssertionError):
    """A task asks for one more attempt again and again; in a test, no time passes between them."""


class EagerLedger:
    """A ledger of this test session, and one slot that runs its tasks.

    Args:
        urls: servers of the session's own, on which the ledger's tables are.
        task_modules, celery_app: as ``LEDGERQ_TASK_MODULES`` and ``LEDGERQ_CELERY_APP``.
        folder: the project's folder, from which its modules are imported.
    """

    def __init__(self, urls: Urls, *, task_modules: str, celery_app: str | None, folder: Path) -> None:
        stores = StoreSettings(
            database_url=urls.database_url,
            database_replica_url=None,
            redis_url=urls.redis_url,
            celery_broker_url=urls.redis_url,
            celery_result_backend=urls.redis_url,
            ledgerq_require_sync=0,
            ledgerq_cell=0,
        )
        self.urls = urls
        make_importable(folder)
        self.app = _app(stores, task_modules=task_modules, celery_app=celery_app)
        connections = Stores(stores, "ledgerq-testing")
        self._submitter = Submitter(connections.connect)
        client.install_for_all(self.app, self._submitter, actor="client")
        self._database = Database(stores.database_url, application_name="ledgerq-testing", size=2)
        self._redis = Redis.from_url(urls.redis_url)
        self._table = SlotTable.create(1)
        self._table.enter(_SLOT, os.getpid())
        self._recorder = _Recorder.of(self.app, self._database, self._table)
        self._runner = Runner(self.app, self._table, _SLOT, self._recorder, hostname=_NAME)
        self._known: frozenset[str] = frozenset()
        self._catalogue = Catalogue({})
        self._tables = [name for (name,) in self._database.fetch(tables_to_empty())]

    def reset(self) -> None:
        """Forget all tasks."""
        with self._database.transaction() as cursor:
            execute(cursor, empty(self._tables))
        self._redis.flushdb()
        self._recorder.reports.clear()

    def close(self) -> None:
        """Disconnect."""
        self._submitter.close()
        self._database.close()
        self._redis.close()
        self._table.remove()

    def submit(self, task: Any, /, **parameters: Any) -> Outcome:
        """Submit a task as ``POST /tasks/submit`` does, and run it and all other work that is there.

        Args:
            task: the task, or its name, such as ``"my_tasks.resize"``.
            **parameters: its keyword arguments.

        Raises:
            UnknownTaskType: no task module has such a task.
            InvalidParameters: they do not fit the JSON Schema that is made from its signature.
            TypeError: JSON cannot hold them.
        """
        return self.submit_with(task, parameters)

    def submit_with(self, task: Any, parameters: Mapping[str, Any] | None = None, /, **options: Any) -> Outcome:
        """As :meth:`submit`, with the submit's other fields: ``queue``, ``max_retries``, ``unique_key``, ``tags``, …

        Raises:
            InvalidRequest: a field is unknown or wrong.
            DuplicateTask: its unique key is taken, and its policy is not to return the task that holds it.
        """
        task_id = self._accept(str(getattr(task, "name", task)), parameters or {}, options)
        self.run_all()
        return self.outcome(task_id)

    def _accept(self, name: str, parameters: Mapping[str, Any], options: Mapping[str, Any]) -> str:
        text = json.dumps({**options, "task_type": name, "task_parameters": dict(parameters)}, allow_nan=False)
        self._learn_types()
        try:
            body = decode_submit(text.encode())
        except ValueError as error:  # msgspec's own
            raise from_msgspec(error, "#") from None  # type: ignore[arg-type]
        new = draft(body, self._catalogue, NOBODY_IN_PARTICULAR)
        with self._database.transaction() as cursor:
            other = submit(cursor, [new]).others.get(new.id)
        if isinstance(other, DuplicateTask | ScopeMissing):
            raise other
        return str(new.id if other is None else other.id)

    def run_all(self) -> None:
        """Run whatever the ledger has, until nothing is left: what ``delay`` has sent, retries, chains, countdowns.

        Raises:
            EndlessRetries: a task has had a hundred attempts.
        """
        self._learn_types()
        while self._run_ready() or self._promote():
            pass

    def outcome(self, task_id: str) -> Outcome:
        """What became of a task, by its id or by Celery's.

        Raises:
            TaskNotFound: the ledger has no such task.
        """
        found = self._database.fetch(find_task(task_id=_uuid(task_id), celery_id=task_id))
        if not found:
            raise TaskNotFound(say("There is no task {task_id!r}.", task_id=task_id))
        [(row, _)] = self._database.fetch(read_task(found[0][0]))
        events = self._database.fetch(
            read_events(row.id, submitted_at=row.submitted_at, after=0, limit=_MOST_EVENTS), timeout=60.0
        )
        return outcome_of(row, events, self._recorder.reports[row.id])

    def _learn_types(self) -> None:
        """Register what the task modules define; a test may have imported one since."""
        names = frozenset(self.app.tasks)
        if names == self._known:
            return
        write_catalogue(self._database, task_types(self.app))
        self._catalogue = build(self._database.fetch(read_catalogue()), None)
        self._table.worker_id = uuid4()
        with self._database.transaction() as cursor:
            execute(
                cursor,
                register_worker(
                    worker_id=self._table.worker_id,
                    name=_NAME,
                    host=_NAME,
                    pid=os.getpid(),
                    pool="solo",
                    slots=1,
                    queues=sorted({kind.queue for kind in self._catalogue.types.values()} | {"default"}),
                    task_types=sorted(names),
                    lease=_LEASE,
                ),
            )
        self._known = names

    def _run_ready(self) -> bool:
        is_any = False
        for (queue,) in self._database.fetch(queues_with_work()):
            for task in self._recorder.flush(self._claim(queue)):
                is_any = True
                self._run(task)
        return is_any

    def _claim(self, queue: str) -> Any:
        return claim_tasks(
            worker_id=self._table.worker_id,
            slot=_SLOT,
            queue=queue,
            limit=1,
            budget=0.0,
            cost_of_type={},
            unknown_cost=0.0,
            low_water={},
        )

    def _run(self, task: ClaimedTask) -> None:
        if task.attempt >= _MOST_ATTEMPTS:
            raise EndlessRetries(f"{task.task_type} has had {task.attempt} attempts: give it max_retries")
        leg = self._runner.run(task)
        if leg.end is not None:
            self._recorder.ended(leg)
        self._recorder.flush()
        error = leg.end.exception if isinstance(leg.end, Failed) else None
        if isinstance(error, BaseException) and not isinstance(error, Exception | SystemExit):
            raise error  # Ctrl-C, `pytest.fail()`, a debugger's end: meant for the test, not for the task

    def _promote(self) -> bool:
        with self._database.transaction() as cursor:
            execute(cursor, let_none_wait())
            return bool(execute(cursor, promote_due(limit=1000)))


class _Recorder(Recorder):
    """The worker's recorder; it also keeps each report of progress, for tests to look at."""

    reports: defaultdict[str, list[Progress]]

    @classmethod
    def of(cls, app: Celery, database: Database, table: SlotTable) -> Self:
        outbox = Outbox(app, database, actor=f"worker:{_NAME}")
        publisher = Publisher(app, lambda entries: outbox.empty(ids=entries))
        made = cls(database, table, _SLOT, worker=_NAME, publisher=publisher, tally=TallySheet(1).slot(_SLOT))
        made.reports = defaultdict(list)
        return made

    def progressed(self, leg: Leg, percent: float, status: str | None) -> None:
        self.reports[leg.task.id].append(Progress(percent, status))
        super().progressed(leg, percent, status)


def _app(stores: StoreSettings, *, task_modules: str, celery_app: str | None) -> Celery:
    app = build_app(stores, celery_app=celery_app, task_modules=task_modules, default_queue="default")
    # An application of the project's own keeps its result backend otherwise: nothing of a test may go there.
    app.conf.update(celery_result_backend(stores.result_backend))
    limits_belong_to_tasks(app)
    install_backend(app)
    return app


def _uuid(text: str) -> str | None:
    try:
        return str(UUID(text))
    except ValueError:
        return None
