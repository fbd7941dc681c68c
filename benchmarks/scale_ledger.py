"""A ledger of any size, made by SQL as it would be after years, and then used for a while as workers use it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.claim import ClaimedTask, claim_tasks
from ledgerq_shared.statements.fold import fold_counts
from ledgerq_shared.statements.record import Begun, Ended, NextLeg, record_begun, record_ended, record_next_leg
from ledgerq_shared.statements.submit import NewTask, NewTaskOptions, submit_tasks
from ledgerq_shared.statements.workers import register_worker
from ledgerq_shared.states import State
from ledgerq_worker.drain.low_water import LowWater

#: Days over which the finished tasks were submitted.
_DAYS = 7
_AT_ONCE = 100_000

#: Bytes a finished task takes with its two events and all indexes: 860 at 220,000 tasks, and some room.
BYTES_A_TASK = 1_000
#: Write-ahead log, temporary files, a server's own tables.
BYTES_BESIDE = 4_000_000_000

QUEUE, OTHER_QUEUE = "default", "documents"
TASK_TYPE, OTHER_TYPE = "benchmarks.tasks.noop", "benchmarks.tasks.noop_result"
#: Carried by one task in a hundred.
TAG = "monthly"

# Ids as `ids.new_task_id` makes them, of made-up moments; random bits from a hash, so that a build can be repeated.
_IDS = """
SELECT n, at, (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(n %% 4096), 3, '0')
               || '800' || substr(md5(n::text), 1, 13))::uuid AS id,
       CASE WHEN n %% 10 = 0 THEN %(other_type)s ELSE %(type)s END AS task_type,
       CASE WHEN n %% 20 = 0 THEN %(other_queue)s ELSE %(queue)s END AS queue,
       CASE WHEN n %% 100 = 7 THEN ARRAY[%(tag)s] END AS tags,
       json_build_object('n', n) AS parameters
FROM (SELECT n, now() - interval '2 hours' - (%(total)s - n)::float8 / %(total)s * %(days)s * interval '1 day' AS at
      FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n) AS numbers
"""

_FINISHED = f"""
WITH made AS (
  INSERT INTO task (id, task_type, queue, state, submitted_at, started_at, completed_at, seq, attempt, worker, parameters,
                    result, error, tags)
  SELECT id, task_type, queue, s.state, at, at + interval '1 second', at + interval '2 seconds', 4, 1, 'bench:1', parameters,
         CASE s.state WHEN 'SUCCESS' THEN json_build_object('n', n) END,
         CASE s.state WHEN 'FAILURE' THEN '{{"type": "ValueError", "message": "no", "traceback": null}}'::json END, tags
  FROM ({_IDS}) AS i
  CROSS JOIN LATERAL (
    SELECT CASE WHEN n %% 50 = 3 THEN 'FAILURE' WHEN n %% 100 = 5 THEN 'REVOKED' ELSE 'SUCCESS' END) AS s(state)
  RETURNING id, task_type, queue, state, submitted_at, started_at, completed_at
), listed AS (
  INSERT INTO task_success SELECT id FROM made WHERE state = 'SUCCESS'
), counted AS (
  INSERT INTO task_count SELECT task_type, queue, state, count(*) FROM made GROUP BY 1, 2, 3
), submitted AS (
  INSERT INTO task_event (task_id, seq, at, kind, actor) SELECT id, 1, submitted_at, 'submitted', 'api' FROM made
)
INSERT INTO task_event (task_id, seq, at, kind, attempt, actor, claimed_at, started_at)
SELECT id, 4, completed_at, CASE state WHEN 'SUCCESS' THEN 'succeeded' WHEN 'FAILURE' THEN 'failed' ELSE 'revoked' END, 1,
       'worker:bench:1', started_at, started_at FROM made
"""

_WAITING = f"""
WITH made AS (
  INSERT INTO task (id, task_type, queue, submitted_at, parameters, tags)
  SELECT id, task_type, queue, at, parameters, tags
  FROM ({_IDS.replace("interval '2 hours'", "interval '1 second'")}) AS i
  RETURNING id, task_type, queue, priority, submitted_at
), made_ready AS (
  INSERT INTO ready (task_id, queue, priority, run_at, task_type)
  SELECT id, queue, priority, submitted_at, task_type FROM made
), counted AS (
  INSERT INTO task_count SELECT task_type, queue, 'PENDING', count(*) FROM made GROUP BY 1, 2
)
INSERT INTO task_event (task_id, seq, at, kind, actor) SELECT id, 1, submitted_at, 'submitted', 'api' FROM made
"""


@dataclass
class Ledger:
    """One of the two ledgers that are compared."""

    name: str
    url: str
    finished: int
    waiting: int
    worker_id: uuid.UUID = field(default_factory=uuid.uuid4)

    def database(self, size: int = 4) -> Database:
        """Connections of the benchmark's own."""
        return Database(self.url, application_name="bench", size=size, keeps_statements=True)


def build(ledger: Ledger) -> None:
    """Fill an empty, migrated database."""
    database = ledger.database()
    with database.transaction() as cursor:
        cursor.execute(
            "SELECT ledgerq_make_event_partition((now() AT TIME ZONE 'UTC')::date - n) FROM generate_series(1, %s) AS n",
            (_DAYS + 1,),
        )
    for sql, total, days in ((_FINISHED, ledger.finished, _DAYS), (_WAITING, ledger.waiting, 0.04)):
        for first in range(1, total + 1, _AT_ONCE):
            last = min(first + _AT_ONCE - 1, total)
            with database.transaction() as cursor:
                cursor.execute("SET LOCAL synchronous_commit = off")
                cursor.execute(sql, _parameters(first, last, total, days))
            if first % (_AT_ONCE * 10) == 1 and total > _AT_ONCE:
                print(f"{ledger.name}: {last:,} of {total:,}", flush=True)
    with database.transaction() as cursor:
        execute(cursor, fold_counts(at_least=1))
        execute(cursor, _registration(ledger))
    database.close()


def _parameters(first: int, last: int, total: int, days: float) -> dict[str, object]:
    return {
        "first": first,
        "last": last,
        "total": total,
        "days": days,
        "type": TASK_TYPE,
        "other_type": OTHER_TYPE,
        "queue": QUEUE,
        "other_queue": OTHER_QUEUE,
        "tag": TAG,
    }


def _registration(ledger: Ledger) -> Statement[tuple[str]]:
    return register_worker(
        worker_id=ledger.worker_id,
        name="bench:2",
        host="bench",
        pid=1,
        pool="prefork",
        slots=2,
        queues=[QUEUE, OTHER_QUEUE],
        task_types=[TASK_TYPE, OTHER_TYPE],
        lease=864_000.0,
    )


class Use:
    """What workers and clients do to a ledger, statement by statement as they do it: submit, claim, record."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._database = ledger.database(1)
        self._marks = LowWater()

    def close(self) -> None:
        self._database.close()

    def submit(self, number: int) -> None:
        """Some with a tag, in the order of everything else."""
        tasks = [
            NewTask(new_task_id(), TASK_TYPE, QUEUE, "{}", options=NewTaskOptions(tags=[TAG]) if n % 100 == 7 else None)
            for n in range(number)
        ]
        with self._database.transaction() as cursor:
            execute(cursor, submit_tasks(tasks))

    def claim(self, limit: int, *, queue: str = QUEUE) -> list[ClaimedTask]:
        """As a slot does, from its low-water mark."""
        with self._database.transaction() as cursor:
            statement = claim_tasks(
                worker_id=self._ledger.worker_id,
                slot=0,
                queue=queue,
                limit=limit,
                budget=1e9,
                cost_of_type={TASK_TYPE: 1e-6},
                unknown_cost=1e-6,
                low_water=self._marks.marks(queue),
            )
            tasks = execute(cursor, statement)
        if tasks:
            self._marks.claimed(queue, tasks)
        return tasks

    def end(self, tasks: list[ClaimedTask]) -> None:
        """They succeed, one in fifty fails."""
        ended = [
            Ended(
                str(task.id),
                task.claim_no,
                task.attempt + 1,
                State(task.state),
                State.FAILURE if number % 50 == 3 else State.SUCCESS,
                0.001,
                0.0,
                None,
                json.dumps({"type": "ValueError", "message": "no"}) if number % 50 == 3 else None,
            )
            for number, task in enumerate(tasks)
        ]
        if ended:
            with self._database.transaction() as cursor:
                execute(cursor, record_ended(ended))

    def begin(self, tasks: list[ClaimedTask]) -> None:
        """Their code runs from now on."""
        begun = [Begun(str(task.id), task.claim_no, task.attempt + 1, State(task.state), 0.0) for task in tasks]
        with self._database.transaction() as cursor:
            execute(cursor, record_begun(begun))

    def retry(self, tasks: list[ClaimedTask]) -> None:
        """They wait for an hour."""
        for task in tasks:
            leg = NextLeg(
                task_id=str(task.id), claim_no=task.claim_no, attempt=task.attempt + 1, before=State(task.state),
                begun_ago=0.01, state=State.RETRY, task_type=task.task_type, queue=task.queue, priority=task.priority,
                retries=1, delay=3600.0, run_at=None, args=None, parameters=task.parameters, celery=None, data=None,
            )  # fmt: skip
            with self._database.transaction() as cursor:
                execute(cursor, record_next_leg(leg))

    def rounds(self, at_once: int) -> Iterator[int]:
        """For ever: as many submitted as claimed and ended; yields how many."""
        while True:
            self.submit(at_once)
            tasks = self.claim(at_once)
            self.end(tasks)
            yield len(tasks)
