"""Whatever a lease agent waits for, its node keeps its lease."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import psycopg2

from ledgerq_shared.statements.submit import NewTaskOptions
from tests.chaos.support import nodes
from tests.support import databases, wait
from tests.support.proxy import SilentProxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.support.plant import Plant


def _see_heartbeats(plant: Plant, count: int) -> None:
    """Wait until the only node has renewed its lease so often."""
    for _ in range(count):
        seen = plant.scalar("SELECT beat_at FROM worker")
        wait.until(lambda seen=seen: plant.scalar("SELECT beat_at FROM worker") > seen, 30, what="a heartbeat")


@contextlib.contextmanager
def _locked(plant: Plant, statement: str) -> Iterator[None]:
    """A transaction of somebody's that stays open."""
    with contextlib.closing(psycopg2.connect(plant.database_url)) as connection:
        connection.cursor().execute(statement)
        yield


def test_promise_3_a_node_keeps_its_lease_while_its_agent_waits_for_the_claims_of_what_it_has_killed(plant: Plant):
    plant.worker(slots=2)
    neighbour = plant.submit("gated", gate="go")
    killed = plant.submit("slow", NewTaskOptions(time_limit=1), seconds=3600)
    for task_id in (neighbour, killed):
        plant.begun(task_id)
    pid = plant.journal.of(killed)[0].pid
    with _locked(plant, "SELECT FROM claim FOR UPDATE"):
        wait.until(lambda: not nodes.is_alive(pid), 30, what="the end of the process, whoever has locked what")
        _see_heartbeats(plant, 5)
    row = plant.ended(killed)
    assert (row.error["type"], row.attempt, row.worker_deaths) == ("TimeLimitExceeded", 1, 0)
    plant.open("go")
    plant.all_ended()
    assert (plant.workers(), len(plant.journal.of(neighbour))) == (1, 1)
    plant.assert_sound()


def test_promise_3_a_node_keeps_its_lease_while_its_agent_waits_for_a_table(plant: Plant):
    plant.worker(slots=1)
    task_id = plant.submit("gated", gate="go")
    plant.begun(task_id)
    with _locked(plant, "LOCK TABLE claim, task"):
        _see_heartbeats(plant, 5)
    plant.open("go")
    plant.all_ended()
    assert plant.workers() == 1
    plant.assert_sound()


def test_promise_3_a_task_that_logs_without_end_meets_its_limit_and_costs_its_node_nothing(plant: Plant):
    plant.maintenance()
    plant.worker(slots=2, LEDGERQ_LEASE_SECONDS="10")
    neighbour = plant.submit("gated", gate="go")
    plant.begun(neighbour)
    chatty = plant.submit("chatters")
    assert plant.ended(chatty).error["type"] == "TimeLimitExceeded"
    plant.open("go")
    plant.all_ended()
    assert (plant.workers(), len(plant.journal.of(neighbour))) == (1, 1)
    plant.assert_sound()


def test_promise_3_a_lease_is_renewed_over_another_connection_when_one_answers_no_more(plant: Plant):
    with SilentProxy(plant.database_url) as way:
        worker = plant.worker(slots=1, DATABASE_URL=way.url)
        plant.begun(plant.submit("gated", gate="go"))
        _see_heartbeats(plant, 1)
        way.silence()  # all its connections: the agent's other ones, too
        worker.says("agent.lease_stuck")
        _see_heartbeats(plant, 3)
        assert plant.workers() == 1
        nodes.kill(*nodes.all_of(worker))


def test_limits_are_kept_while_the_agents_connection_answers_no_more(plant: Plant):
    """The agent needs no ledger to kill: the end of what it kills is written over another connection."""
    with SilentProxy(plant.database_url) as way:
        worker = plant.worker(slots=2, DATABASE_URL=way.url)
        first = plant.submit("slow", NewTaskOptions(time_limit=3.0), seconds=600)
        second = plant.submit("slow", NewTaskOptions(time_limit=6.0), seconds=600)
        for task_id in (first, second):
            plant.recorded(task_id, "STARTED")
        way.silence()
        for task_id in (first, second):
            row = plant.ended(task_id)
            assert row.error is not None
            assert (row.state, row.attempt, row.error["type"]) == ("FAILURE", 1, "TimeLimitExceeded")
        assert "database.hung_up" in worker.log()
        nodes.kill(*nodes.all_of(worker))


def test_promise_3_a_node_whose_row_somebody_has_locked_goes_on_under_its_id(plant: Plant):
    plant.worker(slots=1)
    task_id = plant.submit("gated", gate="go")
    plant.begun(task_id)
    agents = "SELECT FROM pg_stat_activity WHERE application_name LIKE 'ledgerq-lease %%' AND wait_event_type = 'Lock'"
    with _locked(plant, "SELECT FROM worker FOR UPDATE"):
        seen = databases.rows(plant.database_url, "SELECT clock_timestamp(), beat_at FROM worker")[0]
        late = f"SELECT clock_timestamp() - beat_at > interval '{plant.lease / 2} s' FROM worker"
        wait.until(lambda: plant.scalar(late), 30, what=f"a renewal that could not be made; {seen}")
        assert databases.rows(plant.database_url, agents) == []
    _see_heartbeats(plant, 2)
    plant.open("go")
    plant.all_ended()
    assert plant.workers() == 1
    plant.assert_sound()
