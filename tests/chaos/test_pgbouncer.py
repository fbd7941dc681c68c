"""Everything runs through a PgBouncer in transaction mode: nobody has a session for itself, and PgBouncer may die, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg2
import pytest

from ledgerq_shared.statements.submit import NewTaskOptions
from tests.chaos.support import nodes
from tests.chaos.support.plant import Plant
from tests.support import databases, http, wait
from tests.support.pgbouncer import POOL_SIZE, PgBouncer, is_installed, version

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.chaos.conftest import Scale
    from tests.support.stack import Running, Stack

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(not is_installed(), reason="no PgBouncer on this machine (Debian: apt-get install pgbouncer)"),
]


@pytest.fixture
def bouncer(workspace: Path, empty_database: str) -> Iterator[PgBouncer]:
    made = PgBouncer(workspace, empty_database)
    made.start()
    print(version())
    yield made
    made.stop()


@pytest.fixture
def plant(stack: Stack, bouncer: PgBouncer, empty_database: str, redis_database: str, scale: Scale) -> Iterator[Plant]:
    """Migrated and run through PgBouncer; the test looks straight into PostgreSQL."""
    databases.migrate(bouncer.url)
    stack.environment["DATABASE_URL"] = bouncer.url
    made = Plant(stack, empty_database, redis_database, scale.lease)
    yield made
    made.close()
    stack.close()


def test_api_worker_recovery_and_a_leaders_fail_over_need_no_session_of_their_own(plant: Plant, bouncer: PgBouncer):
    plant.stack.register()
    standing = [plant.maintenance(LEDGERQ_LOG_LEVEL="info") for _ in range(2)]
    api = plant.stack.api()
    victim = plant.worker(slots=2)
    killed = plant.submit("gated_once", gate="never")
    plant.begun(killed)
    plant.worker(slots=2)
    victim.kill()
    leader = wait.until(lambda: nodes.leader_of(standing), 30, what="a leader")
    assert leader
    leader.kill()
    plant.accepted += [_submitted(api, number) for number in range(50)]
    due = plant.submit_all("quick", [{"number": number} for number in range(50)], NewTaskOptions(countdown=2.0))
    plant.all_ended()
    assert plant.ended(killed).attempt == 2
    assert {plant.ended(task_id).attempt for task_id in due} == {1}
    plant.assert_sound()
    looked_into, left = bouncer.left_in_sessions()
    assert (looked_into, left) == (POOL_SIZE, [])


def test_a_pgbouncer_that_dies_under_load_loses_nothing_and_work_goes_on_by_itself(plant: Plant, bouncer: PgBouncer):
    plant.maintenance()
    plant.worker(slots=2)
    for _ in range(3):
        ids = plant.submit_all("quick", [{"number": number} for number in range(200)])
        wait.until(lambda ids=ids: any(plant.journal.of(one) for one in ids), 60, what="work is under way")
        bouncer.stop()
        bouncer.start()
    plant.all_ended()
    plant.assert_sound()


def test_what_a_client_leaves_in_a_session_is_found(bouncer: PgBouncer):
    connection = psycopg2.connect(bouncer.url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("PREPARE mine AS SELECT 1")
        cursor.execute("SET work_mem = '5MB'")
        cursor.execute("LISTEN something")
        cursor.execute("SELECT pg_advisory_lock(1)")
    connection.close()
    _, left = bouncer.left_in_sessions()
    assert {(kind, name) for _, kind, name in left} == {
        ("prepared statement", "mine"),
        ("setting", "work_mem"),
        ("listens to", "something"),
        ("session lock", "advisory"),
    }


def _submitted(api: Running, number: int) -> str:
    body = {"task_type": "chaos_tasks.quick", "task_parameters": {"number": number}}
    answer = http.request("POST", f"{api.url}/tasks/submit", body)
    assert answer.status == 202, answer.body
    return str(answer.json()["task_id"])
