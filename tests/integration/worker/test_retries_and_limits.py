"""When a task is tried again, when not, and which limit ended it: per type and per submit."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from ledgerq_shared.statements.submit import NewTaskOptions
from tests.integration.worker.conftest import Work
from tests.support import databases, ledger_checks, wait

if TYPE_CHECKING:
    from tests.support.stack import Running

_MODULE = """
import time
from celery import shared_task

class TooBusy(Exception):
    pass

@shared_task(bind=True, max_retries=3)
def is_told_when_to_come_again(self, seconds):
    raise self.retry(countdown=seconds, exc=TooBusy("come again"))

@shared_task(bind=True, autoretry_for=(Exception,), retry_backoff=64, retry_jitter=True, max_retries=3)
def backs_off(self):
    raise TooBusy("busy")

@shared_task(bind=True, autoretry_for=(Exception,), dont_autoretry_for=(KeyError,), default_retry_delay=0, max_retries=3)
def fails_for_good(self):
    raise KeyError("no use in trying again")

@shared_task
def runs(seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.01)
    return "done"

@shared_task(soft_time_limit=0.3, time_limit=30)
def is_limited_softly(seconds):
    return runs.run(seconds)

@shared_task(time_limit=0.5)
def is_limited_hard(seconds):
    return runs.run(seconds)
"""


def _start(work: Work, **environment: str) -> Running:
    (work.stack.folder / "limited_tasks.py").write_text(_MODULE)
    work.stack.environment["LEDGERQ_TASK_MODULES"] = "limited_tasks"
    work.stack.register()
    return work.stack.worker(**environment)


def _waits_for(work: Work, task_id: str) -> float:
    """For how long the task waits in the ledger, in seconds from its last event on."""
    wait.until(lambda: work.row(task_id).state == "RETRY", 30, what=lambda: f"{work.row(task_id)}")
    [(seconds,)] = databases.rows(
        work.database_url,
        """SELECT extract(epoch FROM h.until - e.at)::float8 FROM held h JOIN task_event e USING (task_id)
           WHERE h.task_id = %s AND h.reason = 'retry' ORDER BY e.seq DESC LIMIT 1""",
        (task_id,),
    )
    return float(str(seconds))


def test_a_task_says_itself_when_it_is_to_be_tried_again_and_the_ledger_keeps_the_time(work: Work):
    _start(work)
    task_id = work.submit("limited_tasks.is_told_when_to_come_again", seconds=1234)
    assert _waits_for(work, task_id) == pytest.approx(1234, abs=1)


def test_a_back_off_is_spread_by_jitter_within_its_bound(work: Work):
    _start(work)
    waits = [_waits_for(work, work.submit("limited_tasks.backs_off")) for _ in range(4)]
    assert all(0 <= seconds <= 65 for seconds in waits)
    assert len({round(seconds) for seconds in waits}) > 1, "jitter"


def test_an_error_for_good_is_not_tried_again(work: Work):
    _start(work)
    row = work.run("limited_tasks.fails_for_good")
    assert (row.state, row.attempt, row.retries, (row.error or {}).get("type")) == ("FAILURE", 1, 0, "KeyError")


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_the_outcome_says_which_limit_was_hit_whether_the_types_or_the_submits(work: Work, pool: str):
    _start(work, LEDGERQ_WORKER_POOL=pool)
    soft = [
        work.submit("limited_tasks.is_limited_softly", seconds=20),
        work.submit("limited_tasks.runs", NewTaskOptions(soft_time_limit=0.3), seconds=20),
    ]
    longer = work.submit("limited_tasks.is_limited_softly", NewTaskOptions(soft_time_limit=20.0), seconds=0.6)
    for task_id in soft:
        row = work.ended(task_id)
        assert (row.state, (row.error or {}).get("type")) == ("FAILURE", "SoftTimeLimitExceeded")
    assert work.ended(longer).result == "done", "the submit's limit goes before the type's"
    if pool == "prefork":
        hard = [
            work.submit("limited_tasks.is_limited_hard", seconds=20),
            work.submit("limited_tasks.runs", NewTaskOptions(time_limit=0.5), seconds=20),
        ]
        for task_id in hard:
            row = work.ended(task_id)
            assert (row.state, (row.error or {}).get("type")) == ("FAILURE", "TimeLimitExceeded")
            assert "hard time limit of 0.5 s" in row.error["message"]  # type: ignore[index]
            assert row.worker_deaths == 0, "it was killed by us: nobody is blamed"
    ledger_checks.assert_sound(work.database_url)


def test_a_second_sigterm_ends_the_node_at_once_and_charges_nobody(work: Work):
    worker = _start(work, LEDGERQ_GRACE_SECONDS="600")
    task_id = work.submit("limited_tasks.runs", seconds=600)
    wait.until(lambda: work.row(task_id).state == "STARTED", 30, what=worker.log)
    worker.send(signal.SIGTERM)
    wait.until(lambda: databases.rows(work.database_url, "SELECT 1 FROM worker WHERE stopping"), 30)
    assert worker.alive()
    worker.send(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert (work.row(task_id).state, work.row(task_id).worker_deaths) == ("PENDING", 0)
    assert not worker.descendants()
    ledger_checks.assert_sound(work.database_url)
