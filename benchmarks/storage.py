"""What a task costs PostgreSQL's disk and log, and how many connections are held: ``python -m benchmarks.storage``."""

from __future__ import annotations

import json
import sys
from collections import Counter

from benchmarks.bed import Bed, make_bed
from ledgerq_shared.ids import new_task_ids
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.statements.submit import NewTask, submit_tasks
from tests.support import databases, wait

#: A usual body: a few hundred bytes of parameters, a small result.
_PARAMETERS = json.dumps({"text": "x" * 200})
_LOG = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint"
_DISK = "SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_stat_user_tables"
_OPEN = "SELECT count(*) FROM task WHERE completed_at IS NULL"
_NAMES = """SELECT split_part(application_name, ' ', 1), count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name LIKE 'ledgerq-%%' GROUP BY 1"""


def _number(url: str, sql: str) -> int:
    return int(str(databases.rows(url, sql)[0][0]))


def _measure(bed: Bed, *, number: int, at_once: int, task: str, parameters: str) -> str:
    environment = {
        "LEDGERQ_TASK_MODULES": "benchmarks.tasks",
        "LEDGERQ_WORKER_CONCURRENCY": "2",
        "LEDGERQ_LOG_LEVEL": "warning",
    }
    with bed.stack(**environment) as stack:
        url = stack.environment["DATABASE_URL"]
        stack.register()
        database = Database(url, application_name="bench")
        stack.worker(LEDGERQ_WORKER_CONCURRENCY="2")
        stack.maintenance()
        wait.until(lambda: _number(url, "SELECT count(*) FROM worker") == 1, 60)
        databases.execute(url, "CHECKPOINT")
        log, disk = _number(url, _LOG), _number(url, _DISK)
        for _ in range(0, number, at_once):
            with database.transaction() as cursor:
                new = [NewTask(one, f"benchmarks.tasks.{task}", "default", parameters) for one in new_task_ids(at_once)]
                execute(cursor, submit_tasks(new, are_new=True))
        wait.until(lambda: _number(url, _OPEN) == 0, 600, interval=0.5, what=stack.logs)
        assert _number(url, "SELECT count(*) FROM task WHERE state <> 'SUCCESS'") == 0
        log, names = _number(url, _LOG) - log, Counter(dict(databases.rows(url, _NAMES)))
        for table in ("task", "task_event", "ready", "claim", "task_count", "task_success"):
            databases.execute(url, f"VACUUM {table}")
        disk = _number(url, _DISK) - disk
        database.close()
        return (
            f"{number} {task} tasks, {at_once} a submit, {len(parameters)} bytes of parameters: "
            f"{disk / number:.0f} bytes on disk, {log / number:.0f} bytes of WAL a task; connections {dict(names)}"
        )


def main() -> None:
    """Print a line for each shape."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    with make_bed() as bed:
        print(_measure(bed, number=number, at_once=500, task="noop", parameters="{}"))
        print(_measure(bed, number=number, at_once=500, task="echo", parameters=_PARAMETERS))
        print(_measure(bed, number=number // 4, at_once=1, task="echo", parameters=_PARAMETERS))


if __name__ == "__main__":
    main()
