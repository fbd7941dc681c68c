"""A lost node's tasks are taken back however busy maintenance is, and whatever its other duties wait for."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import psycopg2
import pytest

from ledgerq_shared.statements.submit import NewTaskOptions
from ledgerq_shared.tasks.cancelling import cancel
from tests.chaos.support import nodes
from tests.support import databases, wait

if TYPE_CHECKING:
    from ledgerq_shared.embedded import EmbeddedValkey
    from tests.chaos.support.plant import Plant

pytestmark = pytest.mark.chaos

_SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(2); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE UPDATE ON task FOR EACH ROW WHEN (NEW.state = 'REVOKED') EXECUTE FUNCTION slow();
"""


def _lose_a_node(plant: Plant) -> str:
    """Its task runs when its node is lost, and later on another node."""
    first = plant.worker(slots=1)
    task_id = plant.submit("gated_once", gate="go")
    plant.recorded(task_id, "STARTED")
    plant.worker(slots=1)
    nodes.kill(*nodes.all_of(first))
    return task_id


def test_promise_3_a_lost_node_is_taken_back_while_many_tasks_expire(plant: Plant):
    plant.maintenance()
    databases.execute(plant.database_url, _SLOW)
    plant.submit_all("quick", [{}] * 50, NewTaskOptions(expires_in=0.01), queue="nobody")
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
    wait.until(lambda: plant.scalar(waiting), 30, what="tasks expire")
    task_id = _lose_a_node(plant)
    wait.until(lambda: plant.events(task_id)[-1] == "recovered", 60, what=lambda: str(plant.events(task_id)))
    assert plant.scalar(waiting), "tasks still expire"


def test_promise_3_a_lost_node_is_taken_back_beside_a_strangers_lock_and_many_names_of_queues(plant: Plant):
    for number in range(200):
        plant.submit("quick", queue=f"nobody-{number}")
    with psycopg2.connect(plant.database_url) as stranger, stranger.cursor() as cursor:
        cursor.execute("LOCK TABLE idempotency")  # old keys cannot be deleted
        plant.maintenance()
        waiting = (
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'ledgerq-maintenance'"
        )
        wait.until(lambda: databases.rows(plant.database_url, waiting), 30, what="maintenance waits for the lock")
        task_id = _lose_a_node(plant)
        assert plant.ended(task_id).result == "later"
        stranger.rollback()
    stranger.close()


def test_promise_3_a_lost_node_is_taken_back_while_redis_says_nothing(plant_on_valkey: Plant, valkey: EmbeddedValkey):
    plant = plant_on_valkey
    plant.maintenance()
    first = plant.worker(slots=1)
    task_id = plant.submit("gated_once", gate="go")
    plant.recorded(task_id, "STARTED")
    waits = plant.submit("quick", NewTaskOptions(countdown=3600))
    servers = [process.pid for process in valkey.processes()]
    try:
        for pid in servers:
            nodes.send(pid, signal.SIGSTOP)
        with plant._database.transaction() as cursor:
            cancel(cursor, waits, actor="test")  # maintenance has to tell its listeners, through Redis
        nodes.kill(*nodes.all_of(first))
        wait.until(lambda: plant.events(task_id)[-1] == "recovered", 60, what=lambda: str(plant.events(task_id)))
        assert plant.scalar("SELECT count(*) FROM outbox"), "nobody could be told"
    finally:
        for pid in servers:
            nodes.send(pid, signal.SIGCONT)
