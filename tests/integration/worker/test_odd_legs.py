"""Legs that go on in ways that Celery allows and few people use."""

from __future__ import annotations

from tests.integration.worker.conftest import Work
from tests.support import databases, ledger_checks

_MODULE = """
from celery import chain, shared_task
from contract_tasks import add

@shared_task(bind=True, max_retries=1)
def goes_on_after_asking(self):
    if self.request.retries == 0:
        self.retry(countdown=0.1, throw=False)
        return "too early"
    return "second"

@shared_task(bind=True, max_retries=1)
def fails_after_asking(self):
    if self.request.retries == 0:
        self.retry(countdown=0.1, throw=False)
        raise ValueError("too early")
    return "second"

@shared_task(bind=True)
def becomes_a_chain(self):
    return self.replace(chain(add.s(1, 2), add.s(10)))
"""


def _start(work: Work) -> None:
    (work.stack.folder / "odd_tasks.py").write_text(_MODULE)
    work.stack.worker(LEDGERQ_TASK_MODULES="contract_tasks,odd_tasks")


def test_a_retry_that_does_not_throw_runs_again_and_the_last_leg_decides(work: Work):
    _start(work)
    for name in ("goes_on_after_asking", "fails_after_asking"):
        row = work.run(f"odd_tasks.{name}")
        assert (row.state, row.result, row.attempt, row.retries) == ("SUCCESS", "second", 2, 1), name
    ledger_checks.assert_sound(work.database_url)


def test_a_replacement_that_cannot_keep_the_id_fails_before_anything_is_sent(work: Work):
    _start(work)
    row = work.run("odd_tasks.becomes_a_chain")
    assert (row.state, row.error["type"]) == ("FAILURE", "CompoundReplacement")
    assert "chain" in row.error["message"]
    assert databases.rows(work.database_url, "SELECT count(*) FROM task") == [(1,)]
    ledger_checks.assert_sound(work.database_url)
