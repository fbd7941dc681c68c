"""unique_key from Python code."""

from __future__ import annotations

from tests.integration.worker.conftest import Work
from tests.support import databases, ledger_checks

_MODULE = """
from celery import shared_task
from clients.celery.base_tasks import DatabaseAwareTask
from contract_tasks import silent
from ledgerq_shared.errors import DuplicateTask

@shared_task(base=DatabaseAwareTask)
def waits():
    return "at last"

@shared_task
def submits():
    first = waits.apply_async(countdown=3600, unique_key="k")
    again = waits.apply_async(unique_key="k")
    refused = []
    for task, options in ((waits, {"unique_policy": "reject"}), (silent, {})):
        try:
            task.apply_async(unique_key="k", **options)
        except DuplicateTask as error:
            refused.append(error.extra["task_id"])
    newest = waits.apply_async(countdown=3600, unique_key="k", unique_policy="replace", unique_ttl=60)
    return [first.id, again.id, *refused, newest.id]

@shared_task
def mistaken(unique):
    try:
        waits.apply_async(**unique)
    except ValueError as error:
        return str(error)
"""


def test_python_code_may_give_its_tasks_unique_keys(work: Work):
    (work.stack.folder / "unique_tasks.py").write_text(_MODULE)
    work.stack.worker(LEDGERQ_TASK_MODULES="contract_tasks,unique_tasks")
    result = work.run("unique_tasks.submits").result
    first, newest = result[0], result[-1]
    assert result == [first, first, first, first, newest]
    assert (work.row(first).state, work.row(newest).state) == ("REVOKED", "PENDING")
    assert databases.rows(work.database_url, "SELECT key, task_id::text, until IS NOT NULL FROM unique_key") == [
        ("k", newest, True)
    ]
    for wrong in ({"unique_key": ""}, {"unique_key": "k", "unique_policy": "x"}, {"unique_key": "k", "unique_ttl": -1}):
        assert "must be" in work.run("unique_tasks.mistaken", unique=wrong).result
    ledger_checks.assert_sound(work.database_url)
