"""A cancel meets whatever else may happen to the task at the same moment: one outcome, and the caller is told which."""

from __future__ import annotations

import json
import random
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg2
import pytest

from ledgerq_shared.errors import TaskIsFinal, TaskNotFound
from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.sql import Statement
from ledgerq_shared.statements import dispatch, record
from ledgerq_shared.statements.cancel import find_cancel_requests, revoke_waiting
from ledgerq_shared.statements.claim import ClaimedTask, claim_tasks, hand_back
from ledgerq_shared.statements.expire import expire
from ledgerq_shared.statements.recover import recover_claims
from ledgerq_shared.statements.submit import NewTask, NewTaskOptions, submit_tasks
from ledgerq_shared.states import State
from ledgerq_shared.tasks.cancelling import Cancelled, cancel
from tests.support import databases, ledger_checks, wait
from tests.support.lives import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CANCELLER = "canceller"

T = TypeVar("T")


class Bench:
    """A ledger, a worker in it, a transaction that is left open, and cancels that run beside it."""

    def __init__(self, database_url: str, worker: Worker) -> None:
        self.url = database_url
        self.worker = worker
        self.open = psycopg2.connect(database_url)
        self._cancels = Database(database_url, application_name=CANCELLER, size=4)
        self._threads = ThreadPoolExecutor(4)

    def close(self) -> None:
        self._threads.shutdown()
        self.open.close()
        self._cancels.close()

    def submit(self, options: NewTaskOptions | None = None, parameters: str = "{}") -> str:
        task = NewTask(new_task_id(), "demo.anything", "default", parameters, options=options)
        self.do(submit_tasks([task]))
        return str(task.id)

    def do(self, statement: Statement[Any]) -> list[tuple[Any, ...]]:
        """Run and commit."""
        with self._cancels.transaction() as cursor:
            return execute(cursor, statement)

    def leave_open(self, *statements: Statement[Any]) -> list[tuple[Any, ...]]:
        """Run in the open transaction; returns the last one's rows."""
        with self.open.cursor() as cursor:
            rows: list[tuple[Any, ...]] = []
            for statement in statements:
                rows = execute(cursor, statement)
            return rows

    def cancel(self, task_id: str, **more: Any) -> Cancelled:
        with self._cancels.transaction() as cursor:
            return cancel(cursor, task_id, actor="test", **more)

    def cancel_beside(self, task_id: str) -> Future[Cancelled]:
        """A cancel that meets the open transaction: returns once it waits for it."""
        return self._beside(lambda: self.cancel(task_id))

    def beside(self, statement: Statement[Any]) -> Future[list[tuple[Any, ...]]]:
        """A statement that meets the open transaction: returns once it waits for it."""
        return self._beside(lambda: self.do(statement))

    def _beside(self, work: Callable[[], T]) -> Future[T]:
        future = self._threads.submit(work)
        wait.until(self._is_waiting, 30, what="it waits for the open transaction's lock")
        assert not future.done()
        return future

    def claim(self) -> Statement[Any]:
        return claim_tasks(
            worker_id=self.worker.id, slot=0, queue="default", limit=10, budget=1e9, cost_of_type={},
            unknown_cost=0.0, low_water={},
        )  # fmt: skip

    def claimed(self) -> ClaimedTask:
        """Claim the only ready task."""
        [task] = self.worker.claim().values()
        return task

    def row(self, task_id: str) -> tuple[Any, ...]:
        [row] = databases.rows(
            self.url, "SELECT state, cancel_requested_at IS NOT NULL, attempt FROM task WHERE id = %s", (task_id,)
        )
        return row

    def kinds(self, task_id: str) -> list[str]:
        return [event.kind for event in ledger_checks.read(self.url).events[task_id]]

    def reason(self, task_id: str) -> Any:
        [(reason,)] = databases.rows(
            self.url, "SELECT data->>'reason' FROM task_event WHERE task_id = %s AND kind = 'revoked'", (task_id,)
        )
        return reason

    def _is_waiting(self) -> bool:
        sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'"
        [(count,)] = databases.rows(self.url, sql, (CANCELLER,))
        return bool(count)


@pytest.fixture
def bench(database: str) -> Iterator[Bench]:
    with Worker(database) as worker:
        bench = Bench(database, worker)
        yield bench
        bench.close()
    ledger_checks.assert_sound(database)


def ended(task: ClaimedTask, state: State = State.SUCCESS, before: State = State.PENDING) -> Statement[Any]:
    return record.record_ended(
        [record.Ended(task.id, task.claim_no, task.attempt + 1, before, state, 0.01, 0.0, "1", None)]
    )


def next_leg(task: ClaimedTask, delay: float | None = 60.0) -> Statement[Any]:
    return record.record_next_leg(
        record.NextLeg(
            task.id, task.claim_no, task.attempt + 1, State(task.state), 0.01, State.RETRY, task.task_type, task.queue,
            task.priority, task.retries + 1, delay, None, None, task.parameters, None, None,
        )
    )  # fmt: skip


def recovered(bench: Bench) -> Statement[Any]:
    return recover_claims(worker_id=bench.worker.id, suspects=[], quarantine_after=3, why="test", actor="maintenance")


@pytest.mark.parametrize(
    "options",
    [None, NewTaskOptions(countdown=3600), NewTaskOptions(countdown=3600, expires_in=7200)],
    ids=["ready", "ETA", "ETA and expiry"],
)
def test_a_waiting_task_is_revoked_in_the_same_moment(bench: Bench, options: NewTaskOptions | None):
    task_id = bench.submit(options)
    assert bench.cancel(task_id, message="no longer needed") == (State.REVOKED, False)
    assert bench.row(task_id) == ("REVOKED", True, 0)
    assert bench.kinds(task_id) == ["submitted", "revoked"]
    assert bench.worker.claim() == {}
    data = databases.rows(bench.url, "SELECT data FROM task_event WHERE kind = 'revoked'")
    assert data == [({"reason": "cancelled", "message": "no longer needed"},)]
    assert databases.rows(bench.url, "SELECT kind, payload->>'task_id' FROM outbox") == [("outcome", task_id)]


def test_a_task_that_waits_for_its_next_try_is_revoked_in_the_same_moment(bench: Bench):
    task_id = bench.submit()
    bench.worker.retry(bench.claimed(), delay=3600)
    assert bench.cancel(task_id).state is State.REVOKED
    assert bench.kinds(task_id) == ["submitted", "dispatched", "started", "retried", "revoked"]


def test_an_unknown_task_is_not_found(bench: Bench):
    with pytest.raises(TaskNotFound):
        bench.cancel(str(new_task_id()))


def test_a_claimed_task_is_asked_to_end_and_its_worker_hears_of_it(bench: Bench):
    task_id = bench.submit()
    task = bench.claimed()
    assert bench.cancel(task_id, message="why not") == (None, False)
    bench.worker.begin(task)
    assert bench.row(task_id) == ("STARTED", True, 1)
    rows = bench.do(find_cancel_requests(worker_id=bench.worker.id))
    assert rows == [(task.claim_no, task_id, False)]
    assert bench.kinds(task_id) == ["submitted", "cancel_requested", "dispatched", "started"]


def test_a_worker_without_cancelled_tasks_hears_of_none(bench: Bench):
    bench.submit()
    bench.claimed()
    assert bench.do(find_cancel_requests(worker_id=bench.worker.id)) == []


def test_a_worker_hears_no_more_of_a_cancelled_task_that_has_ended(bench: Bench):
    task_id = bench.submit()
    bench.submit()
    tasks = bench.worker.claim()
    bench.cancel(task_id)
    bench.do(ended(tasks[task_id]))
    assert bench.do(find_cancel_requests(worker_id=bench.worker.id)) == []


def test_asking_again_changes_nothing_unless_it_may_now_terminate(bench: Bench):
    task_id = bench.submit()
    task = bench.claimed()
    for terminate, expected in ((False, False), (False, False), (True, True), (False, True), (True, True)):
        assert bench.cancel(task_id, terminate=terminate).terminate is expected
    assert bench.kinds(task_id) == ["submitted", "cancel_requested", "cancel_requested"]
    rows = bench.do(find_cancel_requests(worker_id=bench.worker.id))
    assert rows == [(task.claim_no, task_id, True)]


def test_a_cancel_that_meets_a_claim_goes_to_the_worker(bench: Bench):
    task_id = bench.submit()
    [row] = bench.leave_open(bench.claim())
    cancelling = bench.cancel_beside(task_id)
    bench.open.commit()
    assert cancelling.result(10).state is None
    assert databases.rows(bench.url, "SELECT cancelled::text[] FROM claim WHERE no = %s", (row[0],)) == [([task_id],)]


def test_a_cancel_that_meets_a_claim_which_is_rolled_back_revokes(bench: Bench):
    task_id = bench.submit()
    bench.leave_open(bench.claim())
    cancelling = bench.cancel_beside(task_id)
    bench.open.rollback()
    assert cancelling.result(10).state is State.REVOKED
    assert bench.row(task_id) == ("REVOKED", True, 0)


def test_a_claim_passes_over_a_task_that_is_just_being_revoked(bench: Bench):
    task_id = bench.submit()
    bench.leave_open(revoke_waiting([task_id], actor="test"))
    claiming = bench._threads.submit(bench.worker.claim)
    try:
        assert claiming.result(20) == {}, "it waits for nobody"
    finally:
        bench.open.commit()
    assert bench.row(task_id)[0] == "REVOKED"


@pytest.mark.parametrize("state", [State.SUCCESS, State.FAILURE])
def test_a_cancel_that_meets_the_end_is_told_that_it_came_too_late(bench: Bench, state: State):
    task_id = bench.submit()
    bench.leave_open(ended(bench.claimed(), state))
    cancelling = bench.cancel_beside(task_id)
    bench.open.commit()
    with pytest.raises(TaskIsFinal, match=state):
        cancelling.result(10)
    assert bench.row(task_id) == (state, False, 1)


def test_an_end_that_meets_a_cancel_is_the_outcome(bench: Bench):
    task_id = bench.submit()
    task = bench.claimed()
    assert bench.cancel(task_id).state is None
    assert bench.do(ended(task)) == [(task_id,)]
    assert bench.row(task_id) == ("SUCCESS", True, 1)
    with pytest.raises(TaskIsFinal):
        bench.cancel(task_id)


MOVES: dict[str, Callable[[Bench, ClaimedTask], Statement[Any]]] = {
    "handed back": lambda _, task: hand_back({task.id: task.claim_no}),
    "held for want of a worker": lambda _, task: hand_back({task.id: task.claim_no}, reason="no_worker"),
    "tried again later": lambda _, task: next_leg(task),
    "tried again at once": lambda _, task: next_leg(task, None),
    "recovered": lambda bench, _: recovered(bench),
}


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_a_cancel_that_meets_a_claimed_task_on_its_way_back_revokes(
    bench: Bench, move: Callable[[Bench, ClaimedTask], Statement[Any]]
):
    task_id = bench.submit()
    bench.leave_open(move(bench, bench.claimed()))
    cancelling = bench.cancel_beside(task_id)
    bench.open.commit()
    assert cancelling.result(10).state is State.REVOKED
    assert bench.row(task_id)[0] == "REVOKED"


@pytest.mark.parametrize("name", ["handed back", "tried again later", "tried again at once"])
def test_a_cancelled_task_on_its_way_back_is_named_to_be_revoked_with_it(bench: Bench, name: str):
    task_id = bench.submit()
    task = bench.claimed()
    bench.cancel(task_id)
    [row] = bench.leave_open(MOVES[name](bench, task))
    assert row[-1] is True
    assert bench.leave_open(revoke_waiting([task_id], actor="worker:test")) == [(task_id,)]
    bench.open.commit()
    assert bench.row(task_id)[0] == "REVOKED"
    assert bench.reason(task_id) == "cancelled"


def test_a_hand_back_that_waits_for_a_cancel_names_the_task_to_be_revoked(bench: Bench):
    task_id = bench.submit()
    task = bench.claimed()
    with bench.open.cursor() as cursor:
        cancel(cursor, task_id, actor="test")
    handing_back = bench.beside(hand_back({task_id: task.claim_no}))
    bench.open.commit()
    assert handing_back.result(10) == [(task_id, "default", True)]
    bench.do(revoke_waiting([task_id], actor="test"))  # as whoever hands back does, in the same transaction


def test_a_cancelled_task_whose_worker_dies_is_revoked(bench: Bench):
    task_id = bench.submit()
    task = bench.claimed()
    bench.worker.begin(task)
    bench.cancel(task_id)
    [taken] = bench.do(
        recover_claims(
            worker_id=bench.worker.id, suspects=None, quarantine_after=3, why="lease expired", actor="maintenance"
        )
    )
    assert taken.state == "REVOKED"
    assert bench.reason(task_id) == "cancelled"


def test_a_cancel_that_meets_a_promotion_revokes(bench: Bench):
    task_id = bench.submit(NewTaskOptions(countdown=3600))
    databases.execute(bench.url, "UPDATE held SET until = now()")
    bench.leave_open(dispatch.promote_due(limit=10))
    cancelling = bench.cancel_beside(task_id)
    bench.open.commit()
    assert cancelling.result(10).state is State.REVOKED


def test_a_cancel_that_meets_an_expiry_is_told_that_it_came_too_late(bench: Bench):
    task_id = bench.submit(NewTaskOptions(expires_in=3600))
    databases.execute(bench.url, "UPDATE ready SET expires_at = now()")
    bench.leave_open(expire(limit=10))
    cancelling = bench.cancel_beside(task_id)
    bench.open.commit()
    with pytest.raises(TaskIsFinal, match="REVOKED"):
        cancelling.result(10)
    assert bench.reason(task_id) == "expired"


def test_of_two_cancels_at_once_one_revokes_and_the_other_comes_too_late(bench: Bench):
    task_id = bench.submit()
    bench.leave_open(revoke_waiting([task_id], actor="first"))
    cancelling = bench.cancel_beside(task_id)
    bench.open.commit()
    with pytest.raises(TaskIsFinal):
        cancelling.result(10)


def test_a_cancel_whose_commit_was_interrupted_can_be_repeated(bench: Bench):
    task_id = bench.submit()
    bench.cancel(task_id)
    assert bench.cancel(task_id, is_repeated=True).state is State.REVOKED


def test_a_repeated_cancel_does_not_take_an_expiry_for_its_own(bench: Bench):
    task_id = bench.submit(NewTaskOptions(expires_in=3600))
    databases.execute(bench.url, "UPDATE ready SET expires_at = now()")
    bench.do(expire(limit=10))
    with pytest.raises(TaskIsFinal):
        bench.cancel(task_id, is_repeated=True)


def test_two_requests_at_once_for_a_claimed_task_leave_one_event(bench: Bench):
    task_id = bench.submit()
    bench.claimed()
    with bench.open.cursor() as cursor:
        cancel(cursor, task_id, actor="first")
    cancelling = bench.cancel_beside(task_id)
    bench.open.commit()
    assert cancelling.result(10).state is None
    assert bench.kinds(task_id) == ["submitted", "cancel_requested"]


def test_terminating_from_outside_and_ending_by_itself_have_one_outcome(bench: Bench):
    task_id = bench.submit()
    task = bench.claimed()
    bench.worker.begin(task)
    bench.cancel(task_id, terminate=True)
    ending = record.end_from_outside(
        task_id=task.id, claim_no=task.claim_no, state=State.REVOKED, error=None,
        data=json.dumps({"reason": "cancelled", "terminated": True}), actor="worker:test",
    )  # fmt: skip
    assert bench.do(ending) == [(task_id,)]
    assert bench.do(ended(task, before=State.STARTED)) == []
    assert bench.row(task_id) == ("REVOKED", True, 1)


def test_whatever_meets_whatever_every_answer_is_what_the_ledger_then_says(bench: Bench):  # noqa: C901 - one scenario
    """Claimers that end, retry and hand back, a dispatcher, and cancellers, all at once."""
    ids = [bench.submit(NewTaskOptions(countdown=0.05) if number % 3 == 0 else None) for number in range(150)]
    answers: dict[str, Cancelled | TaskIsFinal] = {}
    is_over = threading.Event()

    def canceller(own: list[str]) -> None:
        for task_id in own:
            try:
                answers[task_id] = bench.cancel(task_id)
            except TaskIsFinal as error:
                answers[task_id] = error

    def worker(seed: int) -> None:
        chance = random.Random(seed)
        with Worker(bench.url, name=f"node-{seed}") as node:
            database = Database(bench.url, application_name="node")
            while not is_over.is_set():
                for task in node.claim(limit=chance.randint(1, 5)).values():
                    with database.transaction() as cursor:
                        what = chance.choice(["end", "end", "retry", "back"])
                        if what == "end":
                            execute(cursor, ended(task, before=State(task.state)))
                        else:
                            statement = next_leg(task, 0.0) if what == "retry" else hand_back({task.id: task.claim_no})
                            rows = execute(cursor, statement)
                            if gone := [row[0] for row in rows if row[-1]]:
                                execute(cursor, revoke_waiting(gone, actor="worker:test"))
            database.close()

    def dispatcher() -> None:
        while not is_over.is_set():
            bench.do(dispatch.promote_due(limit=20))

    shuffled = random.Random(1).sample(ids, len(ids))
    with ThreadPoolExecutor(8) as threads:
        running = [threads.submit(worker, seed) for seed in range(3)] + [threads.submit(dispatcher)]
        cancelling = [threads.submit(canceller, shuffled[part::2]) for part in range(2)]
        try:
            for future in cancelling:
                future.result(60)
            unfinished = "SELECT count(*) FROM task WHERE completed_at IS NULL"
            wait.until(lambda: databases.rows(bench.url, unfinished) == [(0,)], 60)
        finally:
            is_over.set()
        for future in running:
            future.result(60)
    states = {task_id: bench.row(task_id) for task_id in ids}
    for task_id, answer in answers.items():
        if isinstance(answer, TaskIsFinal):
            assert states[task_id][0] == "SUCCESS", (task_id, answer, states[task_id])
            assert not states[task_id][1]
        elif answer.state is State.REVOKED:
            assert states[task_id][0] == "REVOKED"
        else:
            assert states[task_id][1]
    assert {state for state, *_ in states.values()} == {"SUCCESS", "REVOKED"}
