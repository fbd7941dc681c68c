"""The guard asks what a claim still lists. That its row still exists, because of another of its tasks, lets no write
pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.statements.claim import ClaimedTask, hand_back
from ledgerq_shared.statements.record import (
    Begun,
    Ended,
    LogLine,
    NextLeg,
    Progress,
    end_from_outside,
    record_begun,
    record_ended,
    record_log,
    record_next_leg,
    record_progress,
)
from ledgerq_shared.statements.submit import NewTask, submit_tasks
from ledgerq_shared.states import State
from tests.support import databases, ledger_checks
from tests.support.lives import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _begin(task: ClaimedTask, before: State) -> Any:
    return record_begun([Begun(str(task.id), task.claim_no, 1, before, 0.0)])


def _report(task: ClaimedTask, before: State) -> Any:
    del before
    return record_progress([Progress(str(task.id), task.claim_no, 1, 50.0, "half", 0.0)])


def _log(task: ClaimedTask, before: State) -> Any:
    del before
    return record_log([LogLine(str(task.id), task.claim_no, 1, "{}", 0.0)])


def _end(task: ClaimedTask, before: State) -> Any:
    return record_ended([Ended(str(task.id), task.claim_no, 1, before, State.SUCCESS, 0.1, 0.0, "1", None)])


def _retry(task: ClaimedTask, before: State) -> Any:
    leg = NextLeg(
        str(task.id), task.claim_no, 1, before, 0.1, State.RETRY, task.task_type, task.queue, task.priority, 1, 0.0,
        None, None, "{}", None, None,
    )  # fmt: skip
    return record_next_leg(leg)


def _kill(task: ClaimedTask, before: State) -> Any:
    del before
    return end_from_outside(
        task_id=str(task.id), claim_no=task.claim_no, state=State.FAILURE, error="{}", data=None, actor="agent"
    )


def _return(task: ClaimedTask, before: State) -> Any:
    del before
    return hand_back({str(task.id): task.claim_no})


@pytest.fixture
def ledger(database: str) -> Iterator[Database]:
    pool = Database(database, application_name="test")
    with pool.transaction() as cursor:
        execute(cursor, submit_tasks([NewTask(new_task_id(), "demo.anything", "default", "{}") for _ in range(2)]))
    yield pool
    pool.close()


@pytest.mark.parametrize("has_begun", [False, True], ids=["claimed by another", "begun by another"])
@pytest.mark.parametrize("write", [_begin, _report, _log, _end, _retry, _kill, _return])
def test_promise_2_a_claim_that_handed_a_task_back_writes_nothing_of_it_though_it_holds_others(
    database: str, ledger: Database, write: Callable[[ClaimedTask, State], Any], has_begun: bool
):
    with Worker(database) as first, Worker(database, name="node-2:1") as second:
        kept, returned = first.claim().values()
        with ledger.transaction() as cursor:
            assert execute(cursor, hand_back({str(returned.id): returned.claim_no}))
        [taken] = second.claim().values()
        assert taken.id == returned.id
        if has_begun:
            second.begin(taken)
        seen = _all_of(database, str(taken.id))
        with ledger.transaction() as cursor:
            assert execute(cursor, write(returned, State.STARTED if has_begun else State.PENDING)) == []
        assert _all_of(database, str(taken.id)) == seen
        second.end(taken, State.SUCCESS, before=State.STARTED if has_begun else None)
        first.end(kept, State.SUCCESS)
    ledger_checks.assert_all_ended(database, [str(kept.id), str(taken.id)])


def _all_of(database: str, task_id: str) -> list[tuple[object, ...]]:
    """Whatever a write could change."""
    return databases.rows(
        database,
        """SELECT t::text, (SELECT count(*) FROM task_event e WHERE e.task_id = t.id), (SELECT count(*) FROM ready),
                  (SELECT count(*) FROM held), (SELECT array_agg(c::text ORDER BY no) FROM claim c)
           FROM task t WHERE id = %s""",
        (task_id,),
    )
