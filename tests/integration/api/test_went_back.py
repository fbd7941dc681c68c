"""The ledger goes back in time: an asynchronous failover loses what was accepted last, and it is sent again."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import Database
from ledgerq_shared.statements.submit import NewTask, NewTaskOptions
from ledgerq_shared.tasks.submitting import submit
from tests.support import api as api_support
from tests.support import databases, ledger_checks, wait
from tests.support.proxy import Proxy
from tests.support.replicated import Replicated

if TYPE_CHECKING:
    from pathlib import Path

BODY = {"task_type": api_support.ANYTHING, "task_parameters": {}}
LOSE_ALL = "SET session_replication_role = replica; TRUNCATE task, ready, task_event, task_count CASCADE"


def test_what_an_asynchronous_failover_lost_is_sent_again_under_the_same_ids_and_the_rest_is_left_alone(
    workspace: Path, redis_database: str
):
    with Replicated(workspace) as pair, Proxy(pair.primary.url) as way:
        [standby] = pair.standbys
        api_support.register(pair.primary.url, *api_support.CATALOGUE)
        with api_support.serve(way.url, redis_database) as api:
            kept = [api.submit() for _ in range(3)]
            assert api.post(f"/tasks/{kept[0]}/cancel", {}).status == 202
            pair.all_have_it()
            standby.follow(None)
            keyed = {"Idempotency-Key": "k"}
            lost = [api.submit() for _ in range(5)]
            lost.append(api.post("/tasks/submit", BODY, headers=keyed).json()["task_id"])
            lost.append(api.submit(unique_key="u", countdown=3600))
            batch = api.post("/tasks/submit/batch", {"tasks": [BODY, BODY]})
            lost += [one["task_id"] for one in batch.json()["tasks"]]
            way.turn_to(None)
            pair.primary.kill()
            assert databases.rows(standby.promote(), "SELECT count(*) FROM task") == [(3,)]
            way.turn_to(standby.url)

            def found() -> set[str]:
                return {str(row[0]) for row in databases.rows(standby.url, "SELECT id::text FROM task")}

            wait.until(lambda: found() == {*kept, *lost}, 60, what=lambda: f"all are there: {len(found())}")
            [(number, sent_again, is_other)] = wait.until(
                lambda: databases.rows(
                    standby.url, "SELECT lost, sent_again, timeline IS DISTINCT FROM before FROM went_back"
                )
            )
            assert (number, sent_again, is_other) == (len(lost), len(lost), True)
            assert api.status(kept[0])["status"] == "REVOKED"
            # The same key is the same task still.
            again = api.post("/tasks/submit", BODY, headers=keyed)
            assert (again.status, again.json()["task_id"]) == (202, lost[5])
            assert api.get("/health").json()["ledger_went_back_at"]
            counted = f"ledgerq_api_lost_tasks_total {len(lost)}.0"
            wait.until(lambda: counted in api.get("/metrics").body.decode())
        ledger_checks.assert_sound(standby.url)


@pytest.mark.parametrize(
    "refusal", ["feature_not_supported", "object_not_in_prerequisite_state", "insufficient_privilege"]
)
def test_a_ledger_that_does_not_tell_its_timeline_is_asked_for_its_tasks_all_the_same(
    database: str, redis_database: str, refusal: str
):
    """As Aurora, by what its users report."""
    name = database.rsplit("/", 1)[1].partition("?")[0]
    databases.execute(
        database,
        f"""
        CREATE SCHEMA other; ALTER DATABASE "{name}" SET search_path = other, pg_catalog, public;
        CREATE FUNCTION other.pg_current_wal_lsn() RETURNS pg_lsn LANGUAGE plpgsql AS
        $$BEGIN RAISE {refusal} USING MESSAGE = 'wal_level must be set to "logical"'; END$$
        """,
    )
    api_support.register(database, *api_support.CATALOGUE)
    with api_support.serve(database, redis_database) as api:
        task_id = api.submit()
        databases.execute(database, LOSE_ALL)
        wait.until(lambda: api.get(f"/tasks/{task_id}").status == 200, what="it is there again")
    assert databases.rows(database, "SELECT lost, sent_again, timeline FROM went_back") == [(1, 1, None)]
    ledger_checks.assert_sound(database)


def lose_all_but(database: str, task_id: str) -> None:
    """In one moment, so that no look sees less."""
    options = NewTaskOptions(unique_key="u", unique_policy="replace", countdown=3600)
    with closing(Database(database, application_name="test")) as pool, pool.transaction() as cursor:
        cursor.execute(f"{LOSE_ALL}; TRUNCATE held, unique_key")
        submit(cursor, [NewTask(UUID(task_id), api_support.ANYTHING, "default", "{}", options=options)])


@pytest.mark.parametrize("policy", ["replace", "return_existing", "reject"])
def test_what_is_sent_again_replaces_nothing_newer_and_is_there_again_ended(
    database: str, redis_database: str, policy: str
):
    api_support.register(database, *api_support.CATALOGUE)
    with api_support.serve(database, redis_database) as api:
        lost = api.submit(unique_key="u", unique_policy=policy, countdown=3600)
        newer = str(new_task_id())
        lose_all_but(database, newer)
        wait.until(lambda: api.get(f"/tasks/{lost}").status == 200, what="it is there again")
        assert (api.status(lost)["status"], api.status(newer)["status"]) == ("REVOKED", "PENDING")
        [event] = [one for one in api.get(f"/tasks/{lost}/events").json()["events"] if one["kind"] == "revoked"]
        assert event["data"] == {"reason": "replaced", "by": newer}
        assert databases.rows(database, "SELECT key, task_id::text FROM unique_key") == [("u", newer)]
        wait.until(lambda: databases.rows(database, "SELECT lost, sent_again FROM went_back") == [(1, 1)])
    ledger_checks.assert_sound(database)


def test_what_is_sent_again_replaces_what_it_had_replaced_before(database: str, redis_database: str):
    api_support.register(database, *api_support.CATALOGUE)
    with api_support.serve(database, redis_database) as api:
        older, lost = (api.submit(unique_key="u", unique_policy="replace", countdown=3600) for _ in range(2))
        lose_all_but(database, older)
        wait.until(lambda: api.get(f"/tasks/{lost}").status == 200, what="it is there again")
        assert (api.status(older)["status"], api.status(lost)["status"]) == ("REVOKED", "PENDING")
        assert databases.rows(database, "SELECT key, task_id::text FROM unique_key") == [("u", lost)]
    ledger_checks.assert_sound(database)
