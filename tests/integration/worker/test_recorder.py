"""Recording when PostgreSQL refuses, or goes away in the middle of a commit: nothing twice, nothing lost."""

from __future__ import annotations

import json
import math
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.statements.claim import ClaimedTask, claim_tasks, hand_back
from ledgerq_shared.statements.submit import NewTask, submit_tasks
from ledgerq_shared.states import State
from ledgerq_worker.drain.recorder import Recorder
from ledgerq_worker.slot.ends import GoesOn, Next, Succeeded
from ledgerq_worker.slot.legs import Leg
from ledgerq_worker.slot.table import STORE_WITHIN, SlotTable
from ledgerq_worker.slot.tally import TallySheet
from tests.support import databases, ledger_checks, refusals, wait
from tests.support.lives import Worker
from tests.support.proxy import CommitBreaker, Fate
from tests.support.replicated import Replicated

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class _Departed:
    """Stands where results leave for Redis."""

    def __init__(self) -> None:
        self.legs: list[Leg] = []

    def begun(self, legs: Sequence[Leg]) -> None:
        """Nobody has asked for events."""

    def recorded(self, legs: Sequence[Leg], outbox: Sequence[int]) -> None:
        """Keep them."""
        self.legs += legs


class _Slot:
    """One slot with its recorder, on a worker that exists only in the ledger."""

    def __init__(self, url: str, worker_id: uuid.UUID, table: SlotTable) -> None:
        table.worker_id = worker_id
        self.table = table
        self.worker_id = worker_id
        self.database = Database(url, application_name="test-slot")
        self.departed = _Departed()
        self.recorder = Recorder(
            self.database, table, 0, worker="node-1:1", publisher=self.departed, tally=TallySheet(1).slot(0)
        )  # type: ignore[arg-type]

    def claim_statement(self) -> Any:
        return claim_tasks(
            worker_id=self.worker_id, slot=0, queue="default", limit=100, budget=1e9, cost_of_type={}, unknown_cost=0.0,
            low_water={},
        )  # fmt: skip

    def claim(self) -> list[Leg]:
        return [self.leg(task) for task in self.recorder.flush(self.claim_statement())]

    def leg(self, task: ClaimedTask) -> Leg:
        leg = Leg(task, 0, self.table, self.recorder, State(task.state))
        leg.begun_at = leg.ended_at = 1.0
        return leg


@pytest.fixture
def node(database: str) -> Iterator[Worker]:
    with Worker(database) as worker:
        yield worker


def _submit(database: str, count: int) -> list[str]:
    tasks = [NewTask(new_task_id(), "demo.anything", "default", "{}") for _ in range(count)]
    pool = Database(database, application_name="test")
    with pool.transaction() as cursor:
        execute(cursor, submit_tasks(tasks))
    pool.close()
    return [str(task.id) for task in tasks]


def _succeed(leg: Leg, result: str = "1") -> None:
    leg.end = Succeeded(result)
    leg.recorder.ended(leg)


def _states(database: str) -> dict[str, str]:
    return dict(databases.rows(database, "SELECT id::text, state FROM task"))  # type: ignore[arg-type]


def _kinds(database: str) -> set[str]:
    return {str(kind) for (kind,) in databases.rows(database, "SELECT DISTINCT kind FROM task_event")}


def test_an_outcome_that_postgresql_refuses_fails_its_task_and_no_other(database: str, node: Worker, table: SlotTable):
    ids = _submit(database, 9)
    slot = _Slot(database, node.id, table)
    legs = slot.claim()
    for leg in legs:
        _succeed(leg, "{broken json" if leg.task.id == ids[4] else "1")
    following = Next("demo.anything", "default", 5, 1, None, "{}", None, delay=math.nan)
    legs[2].end = GoesOn(State.RETRY, following, "{}")
    assert slot.recorder.flush(slot.claim_statement()) == []
    states = _states(database)
    failed = {task_id for task_id, state in states.items() if state == "FAILURE"}
    assert failed == {ids[4], legs[2].task.id}
    assert set(states.values()) == {"SUCCESS", "FAILURE"}
    assert databases.rows(database, "SELECT DISTINCT error->>'type' FROM task WHERE error IS NOT NULL") == [
        ("OutcomeNotRecordable",)
    ]
    ledger_checks.assert_all_ended(database, ids)


def test_the_end_of_a_task_that_takes_no_time_is_not_before_its_beginning(
    database: str, node: Worker, table: SlotTable
):
    ids = _submit(database, 100)
    slot = _Slot(database, node.id, table)
    for leg in slot.claim():
        leg.begun_at = leg.ended_at = time.monotonic()
        _succeed(leg)
    slot.recorder.flush()
    ledger_checks.assert_all_ended(database, ids)


def test_a_report_that_postgresql_refuses_is_dropped_and_the_end_is_recorded(
    database: str, node: Worker, table: SlotTable
):
    ids = _submit(database, 2)
    slot = _Slot(database, node.id, table)
    first, second = slot.claim()
    slot.recorder.progressed(first, math.inf, "text with \x00")
    slot.recorder.progressed(second, 50.0, "half")
    slot.recorder.flush()
    for leg in (first, second):
        _succeed(leg)
    slot.recorder.flush()
    assert set(_states(database).values()) == {"SUCCESS"}
    assert databases.rows(database, "SELECT id::text, progress_status FROM task WHERE progress IS NOT NULL") == [
        (second.task.id, "half")
    ]
    ledger_checks.assert_all_ended(database, ids)


@pytest.mark.parametrize("code", ["40P01", "55P03", "58030", "58P01", "XX000", "53100", "57014", "25006", "42501"])
def test_a_refusal_that_is_no_outcomes_fault_ends_no_success_as_a_failure(
    database: str, node: Worker, table: SlotTable, code: str
):
    """Each of these errors passes by itself, except the last one, which somebody has to mend."""
    ids = _submit(database, 3)
    slot = _Slot(database, node.id, table)
    for leg in slot.claim():
        _succeed(leg)
    more = _submit(database, 1)
    refusals.refuse(database, code, on="task", verb="UPDATE", times=2)
    claimed = slot.recorder.flush(slot.claim_statement())
    states = _states(database)
    assert {states[task_id] for task_id in ids} == {"SUCCESS"}
    assert [task.id for task in claimed] == ([] if code == "42501" else more)
    refusals.allow(database)
    for leg in map(slot.leg, claimed):
        _succeed(leg)
    slot.recorder.flush()
    slot.database.close()
    ledger_checks.assert_sound(database)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch):
    """The recorder looks at once whose fault a mistake is, and tries again at once what was set aside."""
    monkeypatch.setattr("ledgerq_worker.drain.refusals._MISTAKE_PATIENCE", 0.3)
    monkeypatch.setattr("ledgerq_worker.drain.aside._AGAIN_EVERY", 0.05)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("count", [5, 1], ids=["in a batch", "alone"])
@pytest.mark.parametrize("code", ["42804", "42501", "25001"])
def test_an_end_that_alone_is_refused_as_a_mistake_of_ours_fails_its_task_and_no_other(
    database: str, node: Worker, table: SlotTable, code: str, count: int
):
    """A rule that somebody has made for one row, say: it stays whatever is done."""
    ids = _submit(database, count)
    slot = _Slot(database, node.id, table)
    for leg in slot.claim():
        _succeed(leg, '"odd"' if leg.task.id == ids[-1] else "1")
    refusals.refuse_rows(database, code, on="task", verb="UPDATE", when="NEW.result::text LIKE '%odd%'")
    slot.recorder.flush(slot.claim_statement())
    states = _states(database)
    assert {task_id: states[task_id] for task_id in ids} == {
        **dict.fromkeys(ids, "SUCCESS"),
        ids[-1]: "FAILURE",
    }
    [(error,)] = databases.rows(database, "SELECT error FROM task WHERE error IS NOT NULL")
    assert isinstance(error, dict)
    assert error["type"] == "OutcomeNotRecordable"
    assert "SUCCESS" in error["message"]
    assert "refused on purpose" in error["message"]
    ledger_checks.assert_all_ended(database, ids)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("code", ["42804", "P0001"], ids=["as a mistake of ours", "as the row's fault"])
def test_an_end_that_is_taken_in_no_form_is_kept_holds_up_nobody_and_is_recorded_when_it_can_be(
    database: str, node: Worker, table: SlotTable, code: str
):
    ids = _submit(database, 5)
    slot = _Slot(database, node.id, table)
    for leg in slot.claim():
        _succeed(leg)
    refusals.refuse_rows(database, code, on="task", verb="UPDATE", when=f"NEW.id = '{ids[2]}'")
    slot.recorder.flush(slot.claim_statement())
    more = _submit(database, 2)
    for leg in slot.claim():
        _succeed(leg)
    slot.recorder.flush()
    states = _states(database)
    assert {task_id for task_id, state in states.items() if state == "SUCCESS"} == {*ids, *more} - {ids[2]}
    assert states[ids[2]] == "PENDING"
    assert table.may_have_asides, "its claim is no orphan"
    refusals.allow(database)
    wait.until(lambda: _states(database)[ids[2]] in {"SUCCESS", "FAILURE"}, 30)
    assert _states(database)[ids[2]] == ("SUCCESS" if code == "42804" else "FAILURE")
    assert "late_write_refused" not in _kinds(database)
    ledger_checks.assert_all_ended(database, [*ids, *more])


@pytest.mark.usefixtures("impatient")
def test_a_mistake_that_concerns_all_ends_no_success_as_a_failure_however_long_it_takes(
    database: str, node: Worker, table: SlotTable
):
    ids = _submit(database, 4)
    slot = _Slot(database, node.id, table)
    for leg in slot.claim():
        _succeed(leg)
    refusals.refuse(database, "42501", on="task", verb="UPDATE", times=None)
    with ThreadPoolExecutor(1) as beside:
        flushed = beside.submit(slot.recorder.flush, slot.claim_statement())
        with pytest.raises(TimeoutError):
            flushed.result(3)
        refusals.allow(database)
        assert flushed.result(30) == []
    wait.until(lambda: set(_states(database).values()) == {"SUCCESS"}, 30)
    ledger_checks.assert_all_ended(database, ids)


@pytest.mark.usefixtures("impatient")
def test_a_report_that_alone_is_refused_as_a_mistake_of_ours_is_dropped_and_the_end_is_recorded(
    database: str, node: Worker, table: SlotTable
):
    ids = _submit(database, 2)
    slot = _Slot(database, node.id, table)
    first, second = slot.claim()
    refusals.refuse_rows(database, "42804", on="task", verb="UPDATE", when="NEW.progress_status = 'odd'")
    slot.recorder.progressed(first, 1.0, "odd")
    slot.recorder.progressed(second, 50.0, "half")
    slot.recorder.flush()
    for leg in (first, second):
        _succeed(leg)
    slot.recorder.flush()
    assert set(_states(database).values()) == {"SUCCESS"}
    ledger_checks.assert_all_ended(database, ids)


def test_an_operators_settings_change_nothing_for_who_claims_and_records(database: str, node: Worker, table: SlotTable):
    databases.set_for_all(database, **databases.OPERATORS)
    ids = _submit(database, 2)
    slot = _Slot(database, node.id, table)
    first, second = slot.claim()
    slot.recorder.begun(first)
    slot.recorder.progressed(first, 12.5, "läuft")
    slot.recorder.flush()
    for leg in (first, second):
        _succeed(leg)
    slot.recorder.flush()
    slot.database.close()
    ledger_checks.assert_all_ended(database, ids)
    assert set(_states(database).values()) == {"SUCCESS"}


@pytest.mark.parametrize("fate", [Fate.UNANSWERED, Fate.UNSENT])
def test_a_connection_lost_in_commit_records_once_and_refuses_nothing(
    database: str, node: Worker, table: SlotTable, fate: Fate
):
    ids = _submit(database, 6)
    with CommitBreaker(database) as proxy:
        slot = _Slot(proxy.url, node.id, table)
        legs = slot.claim()
        more = _submit(database, 3)
        slot.recorder.begun(legs[5])
        slot.recorder.logged(legs[5], '{"message": "line"}')
        for leg in legs[:5]:
            _succeed(leg)
        proxy.arm(fate)
        claimed = slot.recorder.flush(slot.claim_statement())
        assert proxy.met.is_set()
        assert {task.id for task in claimed} == set(more)
        assert len(slot.departed.legs) == 5
        for leg in (legs[5], *map(slot.leg, claimed)):
            _succeed(leg)
        slot.recorder.flush()
        slot.database.close()
    assert "late_write_refused" not in _kinds(database)
    assert databases.rows(database, "SELECT count(*) FROM task_event WHERE kind = 'log'") == [(1,)]
    assert databases.rows(database, "SELECT count(*) FROM claim") == [(0,)]
    ledger_checks.assert_all_ended(database, [*ids, *more])


def test_a_slot_that_waits_for_its_watchers_flush_may_take_its_time(database: str, node: Worker, table: SlotTable):
    """The watcher's flush is slow, and the task has ended meanwhile: its result is in that slot alone."""
    _submit(database, 1)
    slot = _Slot(database, node.id, table)
    [leg] = slot.claim()
    table.enter(0, 4711)
    with ThreadPoolExecutor(1) as beside:
        with slot.recorder._flushing:
            _succeed(leg)
            table.end(0, time.monotonic())
            flushed = beside.submit(slot.recorder.flush)
            wait.until(lambda: table.read()[0].signs_by > time.monotonic() + STORE_WITHIN / 2, what="it may")
            assert not flushed.done()
        flushed.result(30)
    slot.database.close()


def test_a_commit_lost_in_a_failover_is_repeated_although_a_stranger_has_its_number_now(
    workspace: Path, table: SlotTable
):
    with Replicated(workspace) as pair, Worker(pair.primary.url) as node, CommitBreaker(pair.primary.url) as way:
        ids = _submit(pair.primary.url, 2)
        slot = _Slot(way.url, node.id, table)
        legs = slot.claim()
        pair.all_have_it()

        def fail_over() -> None:
            way.turn_to(None)
            pair.primary.kill()
            url = pair.standbys[0].promote()
            for _ in range(20):  # other clients are quicker
                databases.execute(url, "INSERT INTO queue (name) VALUES (gen_random_uuid())")
            way.turn_to(url)

        for leg in legs:
            _succeed(leg)
        way.arm(Fate.UNSENT, fail_over)
        slot.recorder.flush()
        slot.database.close()
        assert {leg.task.id for leg in slot.departed.legs} == set(ids)
        url = pair.standbys[0].url
        assert databases.rows(url, "SELECT count(*) >= 20 FROM queue") == [(True,)]
        assert databases.rows(url, "SELECT count(*) FROM claim") == [(0,)]
        ledger_checks.assert_all_ended(url, ids)


def test_a_refused_leg_learns_that_it_counts_no_more(database: str, node: Worker, table: SlotTable):
    [task_id] = _submit(database, 1)
    slot = _Slot(database, node.id, table)
    [leg] = slot.claim()
    table.enter(0, 1)
    table.begin(0, leg.task.claim_no, leg.task.id, 1.0, 0.0)
    databases.execute(database, "DELETE FROM claim")
    databases.execute(
        database,
        "INSERT INTO ready (task_id, queue, priority, run_at, task_type) "
        "SELECT id, queue, priority, submitted_at, task_type FROM task",
    )
    slot.recorder.begun(leg)
    slot.recorder.flush()
    assert leg.is_refused
    assert leg.is_cancelled
    assert _states(database) == {task_id: "PENDING"}
    ledger_checks.assert_sound(database)


def _logged(database: str) -> list[dict[str, Any]]:
    rows = databases.rows(database, "SELECT data FROM task_event WHERE kind = 'log' ORDER BY task_id, seq")
    return [row[0] for row in rows]  # type: ignore[misc]


def test_the_lines_of_several_tasks_are_written_together_each_tasks_in_order(
    database: str, table: SlotTable, node: Worker
):
    slot = _Slot(database, node.id, table)
    _submit(database, 2)
    legs = slot.claim()
    for number in range(3):
        for leg in legs:
            slot.recorder.logged(leg, json.dumps({"task": leg.task.id, "number": number}))
    slot.recorder.flush()
    ids = sorted(leg.task.id for leg in legs)
    assert _logged(database) == [{"task": task_id, "number": number} for task_id in ids for number in range(3)]
    assert _states(database) == dict.fromkeys(ids, "STARTED")
    for leg in legs:
        _succeed(leg)
    slot.recorder.flush()
    ledger_checks.assert_sound(database)


@pytest.mark.parametrize(("line", "kept"), [({"n": 1}, 10_000), ({"n": "x" * 60_000}, 69)], ids=["many", "large"])
def test_a_task_that_logs_faster_than_can_be_written_is_told_how_many_lines_were_dropped(
    database: str, table: SlotTable, node: Worker, line: dict[str, Any], kept: int
):
    slot = _Slot(database, node.id, table)
    _submit(database, 1)
    [leg] = slot.claim()
    for _ in range(10_500):
        slot.recorder.logged(leg, json.dumps(line))
    slot.recorder.flush()
    lines = _logged(database)
    assert lines[:-1] == [line] * kept
    assert lines[-1]["dropped"] == 10_500 - kept
    slot.recorder.logged(leg, json.dumps(line))
    slot.recorder.flush()
    assert _logged(database)[-1] == line, "what comes later is kept again"
    ledger_checks.assert_sound(database)


def test_lines_of_a_superseded_claim_are_refused_and_those_of_others_are_kept(
    database: str, table: SlotTable, node: Worker
):
    slot = _Slot(database, node.id, table)
    _submit(database, 2)
    superseded, kept = slot.claim()
    slot.database.fetch(hand_back({superseded.task.id: superseded.task.claim_no}, reason=None))
    for leg in (superseded, kept):
        slot.recorder.logged(leg, json.dumps({"task": leg.task.id}))
    slot.recorder.flush()
    assert _logged(database) == [{"task": kept.task.id}]
    assert (superseded.is_refused, kept.is_refused) == (True, False)


def test_what_a_superseded_leg_would_send_on_stays(database: str, node: Worker, table: SlotTable):
    """Its task stands in the queue again: no result, no chain step and no message of this run leaves."""
    [task_id] = _submit(database, 1)
    slot = _Slot(database, node.id, table)
    [leg] = slot.claim()
    pool = Database(database, application_name="test")
    with pool.transaction() as cursor:
        execute(cursor, hand_back({task_id: leg.task.claim_no}))
    pool.close()
    leg.follow_ups.append(NewTask(new_task_id(), "demo.anything", "default", "{}"))
    leg.messages.append({"name": "elsewhere", "headers": {}, "properties": {}, "body": [[], {}, {}], "queue": "q"})
    _succeed(leg)
    slot.recorder.flush()
    assert leg.is_refused
    assert slot.departed.legs == []
    assert databases.rows(database, "SELECT count(*) FROM outbox") == [(0,)]
    assert _states(database) == {task_id: "PENDING"}
    ledger_checks.assert_sound(database)


def test_a_result_is_recorded_as_often_as_it_takes(database: str, node: Worker, table: SlotTable):
    ids = _submit(database, 3)
    slot = _Slot(database, node.id, table)
    for leg in slot.claim():
        _succeed(leg)
    ended = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'test-slot' AND datname = current_database()"
    )
    assert databases.rows(database, ended) == [(True,)]
    slot.recorder.flush()
    assert set(_states(database).values()) == {"SUCCESS"}
    assert len(slot.departed.legs) == 3
    slot.database.close()
    ledger_checks.assert_all_ended(database, ids)
