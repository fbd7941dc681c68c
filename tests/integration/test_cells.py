"""`LEDGERQ_CELL`: whoever makes ids makes them of this ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from ledgerq_shared.ids import cell_of
from tests.support import databases, http, wait

if TYPE_CHECKING:
    from tests.support.stack import Stack

TASKS = """
from celery import shared_task
from clients.celery.base_tasks import DatabaseAwareTask

@shared_task(base=DatabaseAwareTask)
def leaf():
    return 1

@shared_task(base=DatabaseAwareTask)
def parent():
    leaf.delay()
    (leaf.si() | leaf.si()).delay()

@shared_task
def plain():
    return 1
"""


def test_every_process_makes_ids_that_name_the_ledgers_cell(stack: Stack, database: str):
    (stack.folder / "cells.py").write_text(TASKS)
    stack.environment |= {"LEDGERQ_TASK_MODULES": "cells", "LEDGERQ_CELL": "7"}
    stack.register()
    stack.worker(LEDGERQ_WORKER_CONCURRENCY="1")
    api = stack.api()
    [first] = [http.request("POST", f"{api.url}/tasks/submit", {"task_type": "cells.parent"}).json()["task_id"]]
    http.request("POST", f"{api.url}/tasks/submit/batch", {"tasks": [{"task_type": "cells.leaf"}] * 3})
    http.request("POST", f"{api.url}/tasks/{first}/rerun", {})
    stack.run("-c", "import cells; cells.leaf.apply_async(queue='default')", PYTHONPATH=".")
    stack.run("-c", "import cells, celery; celery.current_app.conf.broker_url = __import__('os').environ['REDIS_URL']; "
                    "cells.plain.apply_async(queue='default')", PYTHONPATH=".")  # fmt: skip
    count = "SELECT count(*) FROM task WHERE completed_at IS NOT NULL"
    wait.until(lambda: databases.rows(database, count) == [(2 + 3 + 2 * 3 + 1 + 1,)], 60, what=stack.logs)
    ids = [UUID(str(found)) for (found,) in databases.rows(database, "SELECT id FROM task")]
    assert {cell_of(one) for one in ids} == {7}
