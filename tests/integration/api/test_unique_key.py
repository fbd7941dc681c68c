"""unique_key: at most one task holds a key."""

from __future__ import annotations

import concurrent.futures
import json
from collections import Counter

import pytest

from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.statements.claim import claim_tasks
from ledgerq_shared.statements.expire import expire
from ledgerq_shared.statements.record import Ended, end_from_outside, record_ended
from ledgerq_shared.statements.recover import recover_claims
from ledgerq_shared.statements.submit import NewTask, NewTaskOptions
from ledgerq_shared.statements.unique import forget_keys, retake_key
from ledgerq_shared.statements.workers import register_worker
from ledgerq_shared.states import State
from ledgerq_shared.tasks.submitting import submit
from tests.support import api as api_support
from tests.support import databases, ledger_checks, lives
from tests.support.api import ANYTHING

POLICIES = ("return_existing", "reject", "replace")


def post(api, key="k", policy=None, /, **more):
    body = {"task_type": ANYTHING, "unique_key": key, "unique_policy": policy, **more}
    return api.post("/tasks/submit", body, headers={"accept-language": "en"})


def holder_of(api, key="k"):
    rows = databases.rows(api.database_url, "SELECT task_id::text FROM unique_key WHERE key = %s", (key,))
    return rows[0][0] if rows else None


def task_rows(api):
    return databases.rows(api.database_url, "SELECT id::text, state FROM task ORDER BY id")


class Worker:
    """A worker's statements, without the worker."""

    def __init__(self, url):
        self.database = Database(url, application_name="test")
        self.id = new_task_id()
        self._run(
            register_worker(
                worker_id=self.id, name="w", host="h", pid=1, pool="solo", slots=1, queues=["default"],
                task_types=[ANYTHING], lease=60,
            )
        )  # fmt: skip

    def _run(self, statement):
        with self.database.transaction() as cursor:
            return execute(cursor, statement)

    def claim(self):
        rows = self._run(
            claim_tasks(
                worker_id=self.id, slot=0, queue="default", limit=100, budget=100, cost_of_type={}, unknown_cost=0,
                low_water={},
            )
        )  # fmt: skip
        return [(row[0], row[1]) for row in rows]

    def succeed(self, claimed):
        ended = [Ended(task_id, no, 1, State.PENDING, State.SUCCESS, 0.0, 0.0, "1", None) for no, task_id in claimed]
        assert len(self._run(record_ended(ended))) == len(ended)

    def kill(self, claimed):
        [(no, task_id)] = claimed
        ended = end_from_outside(
            task_id=task_id, claim_no=no, state=State.FAILURE, error="{}", data=None, actor="worker:w"
        )
        assert self._run(ended)

    def die(self, claimed):
        suspects = [task_id for _, task_id in claimed]
        assert self._run(recover_claims(worker_id=self.id, suspects=suspects, quarantine_after=1, why="x", actor="m"))

    def die_innocently(self, _claimed):
        assert self._run(recover_claims(worker_id=self.id, suspects=[], quarantine_after=3, why="x", actor="m"))


@pytest.fixture
def worker(database):
    worker = Worker(database)
    yield worker
    worker.database.close()


def test_the_task_that_holds_the_key_is_the_answer_unless_a_policy_says_otherwise(api):
    first = post(api)
    again = post(api)
    assert (first.status, again.status) == (202, 202)
    assert again.json() == {**first.json(), "message": "A task with this unique_key exists already"}
    assert again.headers["location"] == first.headers["location"]
    assert post(api, "other").json()["task_id"] != first.json()["task_id"]
    assert len(task_rows(api)) == 2
    assert api.get(f"/tasks/{first.json()['task_id']}").json()["unique_key"] == "k"
    ledger_checks.assert_sound(api.database_url)


def test_reject_is_409_and_names_the_task(api):
    first = post(api).json()["task_id"]
    answer = post(api, "k", "reject")
    assert (answer.status, answer.json()["code"]) == (409, "duplicate_task")
    assert (answer.json()["task_id"], answer.json()["task_status"]) == (first, "PENDING")
    assert len(task_rows(api)) == 1


def test_replace_revokes_the_waiting_task_and_its_history_says_by_whom(api):
    first = post(api, "k", None, countdown=60).json()["task_id"]
    second = post(api, "k", "replace").json()["task_id"]
    third = post(api, "k", "replace").json()["task_id"]
    assert task_rows(api) == [(first, "REVOKED"), (second, "REVOKED"), (third, "PENDING")]
    last = api.get(f"/tasks/{first}/events").json()["events"][-1]
    assert (last["kind"], last["data"]) == ("revoked", {"reason": "replaced", "by": second})
    assert holder_of(api) == third
    assert databases.rows(api.database_url, "SELECT count(*) FROM ready") == [(1,)]
    ledger_checks.assert_sound(api.database_url)


def test_a_task_in_a_workers_hands_is_not_replaced(api, worker):
    first = post(api).json()["task_id"]
    claimed = worker.claim()
    answer = post(api, "k", "replace")
    assert (answer.status, answer.json()["code"], answer.json()["task_id"]) == (409, "duplicate_task", first)
    assert post(api).json()["task_id"] == first
    worker.succeed(claimed)
    assert post(api, "k", "replace").status == 202
    ledger_checks.assert_sound(api.database_url)


@pytest.mark.parametrize("end", ["succeed", "kill", "die"])
def test_whatever_ends_the_task_frees_its_key(api, worker, end):
    first = post(api).json()["task_id"]
    getattr(worker, end)(worker.claim())
    assert holder_of(api) is None
    second = post(api, "k", "reject")
    assert second.status == 202
    assert second.json()["task_id"] != first
    ledger_checks.assert_sound(api.database_url)


def test_expiry_frees_the_key(api):
    first = post(api, "k", None, expires=0).json()["task_id"]
    database = Database(api.database_url, application_name="test")
    with database.transaction() as cursor:
        assert execute(cursor, expire(limit=10)) == [(first,)]
    database.close()
    assert holder_of(api) is None


def test_a_task_that_a_dead_worker_held_keeps_its_key(api, worker):
    first = post(api).json()["task_id"]
    worker.die_innocently(worker.claim())
    assert holder_of(api) == first
    assert post(api).json()["task_id"] == first


def test_ending_one_task_frees_no_other_key(api, worker):
    done = post(api, "a").json()["task_id"]
    claimed = worker.claim()
    other = post(api, "b").json()["task_id"]
    worker.succeed(claimed)
    assert (holder_of(api, "a"), holder_of(api, "b")) == (None, other)
    assert api.status(done)["status"] == "SUCCESS"


def test_with_a_ttl_the_key_outlives_its_task_and_then_is_free(api, worker):
    first = post(api, "k", None, unique_ttl=3600).json()["task_id"]
    worker.succeed(worker.claim())
    again = post(api).json()
    assert (again["task_id"], again["status"]) == (first, "SUCCESS")
    assert post(api, "k", "reject").status == 409
    databases.execute(api.database_url, "UPDATE unique_key SET until = now() - interval '1 second'")
    second = post(api, "k", "reject").json()["task_id"]
    assert second != first
    assert databases.rows(api.database_url, "SELECT task_id::text, until FROM unique_key") == [(second, None)]


def test_a_task_that_outlives_its_ttl_does_not_free_its_successors_key(api, worker):
    post(api, "k", None, unique_ttl=3600)
    claimed = worker.claim()
    databases.execute(api.database_url, "UPDATE unique_key SET until = now() - interval '1 second'")
    second = post(api).json()["task_id"]
    worker.succeed(claimed)
    assert holder_of(api) == second


def test_replace_takes_the_key_of_a_task_that_has_ended_within_its_ttl(api, worker):
    post(api, "k", None, unique_ttl=3600)
    worker.succeed(worker.claim())
    second = post(api, "k", "replace").json()["task_id"]
    assert holder_of(api) == second
    ledger_checks.assert_sound(api.database_url)


def test_a_key_that_an_older_release_has_not_freed_is_free(api, worker):
    first = post(api).json()["task_id"]
    worker.succeed(worker.claim())
    for policy in POLICIES:
        databases.execute(
            api.database_url,
            f"INSERT INTO unique_key VALUES ('k', '{first}') ON CONFLICT (key) DO UPDATE SET task_id = '{first}'",
        )
        answer = post(api, "k", policy)
        assert answer.status == 202
        assert holder_of(api) == answer.json()["task_id"] != first


def test_old_keys_are_forgotten_and_no_others(api):
    post(api, "kept")
    post(api, "later", None, unique_ttl=3600)
    post(api, "past", None, unique_ttl=3600)
    for key in ("new", "old"):
        api.post("/tasks/submit", {"task_type": ANYTHING}, headers={"Idempotency-Key": key})
    databases.execute(api.database_url, "UPDATE unique_key SET until = now() - interval '1 s' WHERE key = 'past'")
    databases.execute(
        api.database_url, "UPDATE idempotency SET created_at = now() - interval '2 hours' WHERE key = 'old'"
    )
    database = Database(api.database_url, application_name="test")
    with database.transaction() as cursor:
        assert execute(cursor, forget_keys(idempotency_older_than=3600, limit=10)) == [(2,)]
    database.close()
    assert databases.rows(api.database_url, "SELECT key FROM unique_key ORDER BY key") == [("kept",), ("later",)]
    assert databases.rows(api.database_url, "SELECT key FROM idempotency") == [("new",)]


@pytest.mark.parametrize("policy", POLICIES)
def test_of_many_clients_of_two_servers_exactly_one_holds_the_key(database, redis_database, policy):
    api_support.register(database, *api_support.CATALOGUE)
    with (
        api_support.serve(database, redis_database) as one,
        api_support.serve(database, redis_database) as other,
        concurrent.futures.ThreadPoolExecutor(40) as clients,
    ):
        answers = list(clients.map(lambda n: (n % 4, post((one, other)[n % 2], f"k-{n % 4}", policy)), range(160)))
        for key in range(4):
            mine = [answer for number, answer in answers if number == key]
            holder = holder_of(one, f"k-{key}")
            told = Counter((answer.status, answer.json()["task_id"] == holder) for answer in mine)
            assert (
                told
                == {
                    "return_existing": {(202, True): 40},
                    "reject": {(202, True): 1, (409, True): 39},
                    "replace": {(202, True): 1, (202, False): 39},
                }[policy]
            )
        states = Counter(state for _, state in task_rows(one))
        assert states == ({"PENDING": 4, "REVOKED": 156} if policy == "replace" else {"PENDING": 4})
        ledger_checks.assert_sound(database)


def test_tasks_of_one_batch_share_a_key_in_their_order(api):
    items = [
        {"task_type": ANYTHING, "unique_key": "a"},
        {"task_type": ANYTHING},
        {"task_type": ANYTHING, "unique_key": "a", "unique_policy": "return_existing"},
        {"task_type": ANYTHING, "unique_key": "a", "unique_policy": "replace"},
        {"task_type": ANYTHING, "unique_key": "a"},
        {"task_type": ANYTHING, "unique_key": "b", "unique_policy": "reject"},
    ]
    body = api.post("/tasks/submit/batch", {"tasks": items}).json()
    ids = [entry["task_id"] for entry in body["tasks"]]
    assert body["accepted"] == 6
    assert ids[0] == ids[2]
    assert ids[3] == ids[4]
    assert len(set(ids)) == 4
    assert dict(task_rows(api)) == {
        ids[0]: "REVOKED", ids[1]: "PENDING", ids[3]: "PENDING", ids[5]: "PENDING",
    }  # fmt: skip
    ledger_checks.assert_sound(api.database_url)


def test_a_batch_with_a_rejected_task_is_refused_as_a_whole_and_names_it(api):
    first = post(api).json()["task_id"]
    items = [{"task_type": ANYTHING, "unique_key": f"k-{n}"} for n in range(10)]
    for taken in ({"unique_key": "k"}, {"unique_key": "k-3"}):
        last = {"task_type": ANYTHING, "unique_policy": "reject", **taken}
        answer = api.post("/tasks/submit/batch", {"tasks": [*items, last]})
        problem = answer.json()
        assert (answer.status, problem["code"]) == (409, "duplicate_task")
        assert problem["errors"][0]["pointer"] == "#/tasks/10/unique_key"
    assert task_rows(api) == [(first, "PENDING")]
    assert databases.rows(api.database_url, "SELECT key FROM unique_key") == [("k",)]


def test_an_idempotency_key_stands_for_the_answer_that_named_the_holder_of_the_unique_key(api):
    first = post(api).json()["task_id"]
    body = {"task_type": ANYTHING, "unique_key": "k"}
    with lives.Worker(api.database_url) as worker:
        [task] = worker.claim().values()
        worker.begin(task)
        answers = [api.post("/tasks/submit", body, headers={"Idempotency-Key": "i"}) for _ in range(2)]
        worker.end(task, State.SUCCESS, before=State.STARTED)
    assert (answers[0].json()["task_id"], answers[0].json()["status"]) == (first, "STARTED")
    assert answers[1].body == answers[0].body
    assert api.post("/tasks/submit", body, headers={"Idempotency-Key": "i"}).body == answers[0].body


def test_an_idempotency_key_of_a_rejected_submit_may_be_used_again(api, worker):
    post(api)
    body = {"task_type": ANYTHING, "unique_key": "k", "unique_policy": "reject"}
    assert api.post("/tasks/submit", body, headers={"Idempotency-Key": "i"}).status == 409
    worker.succeed(worker.claim())
    assert api.post("/tasks/submit", body, headers={"Idempotency-Key": "i"}).status == 202


def test_a_task_that_runs_again_takes_its_key_unless_another_has_it(api, worker):
    first = post(api).json()["task_id"]
    plain = api.submit()
    worker.succeed(worker.claim())

    def retake(task_id):
        database = Database(api.database_url, application_name="test")
        with database.transaction() as cursor:
            rows = execute(cursor, retake_key(task_id))
        database.close()
        return rows

    databases.execute(api.database_url, "UPDATE task SET state = 'PENDING', completed_at = NULL")
    assert retake(plain) == []
    assert retake(first) == retake(first) == [(first,)]
    assert post(api).json()["task_id"] == first
    databases.execute(api.database_url, "DELETE FROM unique_key")
    second = post(api).json()["task_id"]
    assert retake(first) == [(second,)]
    assert holder_of(api) == second


def test_any_text_is_a_key(api):
    for key in ('quo"te', "back\\slash", "{a,b}", "NULL", "键", "😀", " ", "k" * 255):
        first = post(api, key)
        assert (first.status, post(api, key).json()["task_id"]) == (202, first.json()["task_id"]), key
    assert len(task_rows(api)) == 8
    assert json.loads(api.get(f"/tasks/{first.json()['task_id']}").body)["unique_key"] == "k" * 255


def test_an_id_that_is_in_a_batch_twice_is_one_task(database):
    ids = [new_task_id() for _ in range(3)]
    tasks = [NewTask(task_id, ANYTHING, "default", "{}") for task_id in (*ids, *ids)]
    keyed = [task._replace(options=NewTaskOptions(unique_key=str(task.id))) for task in tasks]
    pool = Database(database, application_name="test")
    for sent in (tasks, keyed, keyed + tasks):
        with pool.transaction() as cursor:
            assert not submit(cursor, sent).others
        ledger_checks.assert_sound(database)
    pool.close()
    assert databases.rows(database, "SELECT count(*) FROM task") == [(3,)]
    assert databases.rows(database, "SELECT count(*) FROM unique_key") == [(0,)]
