"""The times of a task, whatever its steps are and whatever PostgreSQL's clock does: its history never runs backwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.statements import record
from ledgerq_shared.statements.cancel import revoke_waiting
from ledgerq_shared.statements.claim import ClaimedTask, hand_back
from ledgerq_shared.statements.expire import expire
from ledgerq_shared.statements.recover import recover_claims
from ledgerq_shared.statements.resubmit import resubmit
from ledgerq_shared.statements.submit import NewTask, NewTaskOptions, submit_tasks
from ledgerq_shared.states import State
from ledgerq_shared.tasks.cancelling import cancel
from tests.support import databases, ledger_checks
from tests.support.lives import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ledgerq_shared.sql import Statement

#: A clock that is set back an hour by each step. These functions stand before PostgreSQL's own in the search path.
_CLOCK = """
CREATE SCHEMA skewed;
CREATE TABLE skewed.clock (hours integer);
INSERT INTO skewed.clock VALUES (0);
CREATE FUNCTION skewed.now() RETURNS timestamptz LANGUAGE sql STABLE
  AS $$ SELECT pg_catalog.now() - (SELECT hours FROM skewed.clock) * interval '1 hour' $$;
CREATE FUNCTION skewed.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
  AS $$ SELECT pg_catalog.clock_timestamp() - (SELECT hours FROM skewed.clock) * interval '1 hour' $$;
"""


class Life:
    """One task, and what becomes of it while the clock is set back again and again."""

    def __init__(self, url: str) -> None:
        self.url = url
        databases.execute(url, _CLOCK)
        skewed = f"{url}?options=-csearch_path%3Dskewed,pg_catalog,public"
        self.database = Database(skewed, application_name="test-times")
        self.worker = Worker(skewed)
        self.worker.__enter__()
        self.id = str(new_task_id())
        self.task: ClaimedTask
        self.state = State.PENDING

    def close(self) -> None:
        """Disconnect."""
        self.worker.__exit__(None, None, None)
        self.database.close()

    def step(self, name: str) -> None:
        """Do it, and set the clock back."""
        getattr(self, name)()
        databases.execute(self.url, "UPDATE skewed.clock SET hours = hours + 1")

    def do(self, statement: Statement[Any]) -> list[tuple[Any, ...]]:
        """Run and commit."""
        with self.database.transaction() as cursor:
            return execute(cursor, statement)

    def submitted(self) -> None:
        task = NewTask(self.id, "demo.anything", "default", "{}")  # type: ignore[arg-type]
        assert self.do(submit_tasks([task]))

    def submitted_to_expire(self) -> None:
        options = NewTaskOptions(expires_in=-1e7)
        assert self.do(submit_tasks([NewTask(self.id, "demo.anything", "default", "{}", options=options)]))  # type: ignore[arg-type]

    def claimed(self) -> None:
        databases.execute(self.url, "UPDATE held SET until = now() - interval '1 year'")
        [self.task] = self.worker.claim().values()
        self.state = State(self.task.state)

    def begun(self) -> None:
        self.worker.begin(self.task)
        self.state = State.STARTED

    def progressed(self) -> None:
        self.worker.progress(self.task, 50.0, "half")

    def logged(self) -> None:
        line = record.LogLine(self.id, self.task.claim_no, self.task.attempt + 1, '{"message": "line"}', 0.0)
        assert self.do(record.record_log([line]))

    def ended(self) -> None:
        self.worker.end(self.task, State.SUCCESS, before=self.state)

    def failed(self) -> None:
        self.worker.end(self.task, State.FAILURE, before=self.state)

    def killed(self) -> None:
        end = record.end_from_outside(
            task_id=self.id, claim_no=self.task.claim_no, state=State.FAILURE, error=None, data=None, actor="test"
        )
        assert self.do(end)

    def retried(self) -> None:
        task, state = self.task, self.state
        leg = record.NextLeg(
            self.id, task.claim_no, task.attempt + 1, state, 0.0, State.RETRY, task.task_type, "default", 5,
            task.retries + 1, None, None, None, "{}", None, None,
        )  # fmt: skip
        with self.database.transaction() as cursor:
            [(_, is_cancelled)] = execute(cursor, record.record_next_leg(leg))
            if is_cancelled:  # as the recorder does
                execute(cursor, revoke_waiting([self.id], actor="test"))

    def recovered(self) -> None:
        lost = recover_claims(
            worker_id=self.worker.id, suspects=[self.id], quarantine_after=9, why="SIGKILL", actor="maintenance"
        )
        assert self.do(lost)

    def handed_back(self) -> None:
        assert self.do(hand_back({self.id: self.task.claim_no}))

    def cancelled(self) -> None:
        with self.database.transaction() as cursor:
            cancel(cursor, self.id, actor="test", terminate=True)

    def expired(self) -> None:
        assert self.do(expire(limit=10))

    def resubmitted(self) -> None:
        assert self.do(resubmit(self.id, actor="test"))

    def refused(self) -> None:
        assert self.do(record.refuse([(self.id, 1, "SUCCESS")], worker="test"))


@pytest.fixture
def life(database: str) -> Iterator[Life]:
    life = Life(database)
    yield life
    life.close()


@pytest.mark.parametrize(
    "steps",
    [
        "submitted claimed ended",
        "submitted claimed begun progressed logged progressed ended refused",
        "submitted claimed begun cancelled ended",
        "submitted claimed cancelled ended",
        "submitted claimed cancelled retried",
        "submitted claimed retried claimed begun logged retried claimed ended",
        "submitted claimed begun retried cancelled resubmitted claimed killed",
        "submitted claimed recovered claimed begun recovered claimed begun killed resubmitted claimed failed refused",
        "submitted claimed refused handed_back claimed failed resubmitted cancelled",
        "submitted_to_expire expired resubmitted claimed cancelled recovered",
    ],
)
def test_a_history_never_runs_backwards_although_the_clock_is_set_back_before_each_step(life: Life, steps: str):
    for step in steps.split():
        life.step(step)
    assert ledger_checks.problems(life.url) == []


def _claim(worker: Worker) -> dict[str, int]:
    return {task_id: task.claim_no for task_id, task in worker.claim().items()}


def _is_handed_back(database: Database, worker: Worker) -> None:
    with database.transaction() as cursor:
        execute(cursor, hand_back(_claim(worker)))


def _is_recovered(database: Database, worker: Worker) -> None:
    with database.transaction() as cursor:
        lost = sorted(_claim(worker))
        execute(
            cursor,
            recover_claims(worker_id=worker.id, suspects=lost[:0], quarantine_after=3, why="SIGKILL", actor="test"),
        )


def _order(url: str) -> list[str]:
    return [row[0] for row in databases.rows(url, "SELECT task_id::text FROM ready ORDER BY run_at, task_id")]


@pytest.mark.parametrize("comes_back", [_is_handed_back, _is_recovered])
@pytest.mark.parametrize("how", ["retried by a person", "tried again", "tried again since long ago", "ETA long ago"])
def test_a_claimed_task_that_comes_back_has_its_old_place_wherever_it_came_from(
    database: str, how: str, comes_back: Callable[[Database, Worker], None]
):
    ledger = Database(database, application_name="test-places")
    old, *waiting = (str(new_task_id()) for _ in range(4))

    def submit(ids: Sequence[str], options: NewTaskOptions | None = None) -> None:
        with ledger.transaction() as cursor:
            tasks = [NewTask(task_id, "demo.anything", "default", "{}", options=options) for task_id in ids]  # type: ignore[arg-type]
            execute(cursor, submit_tasks(tasks))

    try:
        with Worker(database) as worker:
            if how == "ETA long ago":
                submit(waiting)
                submit([old], NewTaskOptions(run_at="2020-01-01T00:00:00Z"))
            else:
                submit([old])
                [claimed] = worker.claim().values()
                submit(waiting)
                if how == "retried by a person":
                    worker.end(claimed, State.FAILURE)
                    with ledger.transaction() as cursor:
                        execute(cursor, resubmit(old, actor="test"))
                else:
                    run_at = "2020-01-01T00:00:00Z" if "long ago" in how else None
                    leg = record.NextLeg(
                        old, claimed.claim_no, 1, State.PENDING, 0.0, State.RETRY, "demo.anything", "default", 5, 1,
                        None, run_at, None, "{}", None, None,
                    )  # fmt: skip
                    with ledger.transaction() as cursor:
                        execute(cursor, record.record_next_leg(leg))
            before = _order(database)
            assert before == [*waiting, old]
            comes_back(ledger, worker)
            assert _order(database) == before
    finally:
        ledger.close()
