"""API keys beside one another: what one key does must not be another's refusal, nor hand it a task, nor end one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import pytest

from ledgerq_api.auth.key_scopes import KeyScope
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.statements.unique import forget_keys
from tests.support import api as api_support
from tests.support import databases, keys, ledger_checks, wait
from tests.support.api import ANYTHING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support import http
    from tests.support.api import Api

PATHS = ("/tasks/submit", "/tasks/submit/batch", "/tasks/{}/rerun")


class Person(NamedTuple):
    """Somebody with a key of their own."""

    api: Api
    id: str
    headers: Mapping[str, str]

    def send(self, path: str, body: object, key: str | None = None) -> http.Response:
        more = {} if key is None else {"idempotency-key": key}
        return self.api.post(path, body, headers={"accept-language": "en", **self.headers, **more})

    def submit(self, **more: object) -> http.Response:
        return self.send("/tasks/submit", {"task_type": ANYTHING, **more})


@pytest.fixture
def api(database, redis_database):
    api_support.register(database, *api_support.CATALOGUE)
    with api_support.serve(database, redis_database) as running:
        yield running


@pytest.fixture
def person(api):
    def make(*scopes: KeyScope) -> Person:
        key_id, key = keys.make(api.database_url, *(scopes or (KeyScope.SUBMIT,)))
        return Person(api, key_id, keys.bearer(key))

    return make


def body_of(path: str, value: int) -> object:
    parameters = {"task_parameters": {"x": value}}
    if path == PATHS[0]:
        return {"task_type": ANYTHING, **parameters}
    return {"tasks": [{"task_type": ANYTHING, **parameters}]} if path == PATHS[1] else parameters


def id_in(answer):
    assert answer.status == 202, answer.body
    made = answer.json()
    return made["tasks"][0]["task_id"] if "tasks" in made else made["task_id"]


def state_of(api, task_id):
    return databases.rows(api.database_url, "SELECT state FROM task WHERE id = %s", (task_id,))[0][0]


@pytest.mark.parametrize("path", PATHS)
def test_an_idempotency_key_is_known_to_the_api_key_that_used_it_and_to_no_other(api, person, path):
    first, second, third = person(), person(), person()
    path = path.format(id_in(first.submit()))
    of_path = "/tasks/{}/rerun" if path.endswith("rerun") else path
    made = {
        who.id: id_in(who.send(path, body_of(of_path, value), "same name"))
        for who, value in ((first, 1), (second, 1), (third, 2))
    }
    assert len(set(made.values())) == 3
    for who, value in ((first, 1), (second, 1), (third, 2)):
        assert id_in(who.send(path, body_of(of_path, value), "same name")) == made[who.id]
        other = who.send(path, body_of(of_path, 3), "same name")
        assert (other.status, other.json()["code"]) == (422, "idempotency_key_reused")
    ledger_checks.assert_sound(api.database_url)


def test_one_name_that_twenty_keys_use_at_once_is_one_task_for_each(api, person):
    people = [person() for _ in range(20)]

    def use(who):
        return who.id, id_in(who.send(PATHS[0], body_of(PATHS[0], 1), "at once"))

    with ThreadPoolExecutor(40) as pool:
        made = set(pool.map(use, people * 4))
    assert len(made) == len({task_id for _, task_id in made}) == len(people)
    assert databases.rows(api.database_url, "SELECT count(*) FROM task") == [(len(people),)]


def test_who_came_second_with_a_name_keeps_it_when_the_first_ones_is_forgotten(api, person):
    first, second = person(), person()
    id_in(first.send(PATHS[0], body_of(PATHS[0], 1), "k"))
    databases.execute(api.database_url, "UPDATE idempotency SET created_at = now() - interval '2 hours'")
    made = id_in(second.send(PATHS[0], body_of(PATHS[0], 1), "k"))
    database = Database(api.database_url, application_name="test")
    with database.transaction() as cursor:
        execute(cursor, forget_keys(idempotency_older_than=3600, limit=10))
    database.close()
    assert id_in(second.send(PATHS[0], body_of(PATHS[0], 1), "k")) == made


def test_a_key_that_was_freed_by_a_refusal_beside_anothers_leaves_that_one_alone(api, person):
    first, second = person(KeyScope.ADMIN), person(KeyScope.ADMIN)
    first.submit(unique_key="taken")
    refused = {"task_type": ANYTHING, "unique_key": "taken", "unique_policy": "reject"}
    with ThreadPoolExecutor(2) as pool:
        for name in map(str, range(30)):
            mine = pool.submit(second.send, PATHS[0], body_of(PATHS[0], 1), name)
            assert first.send(PATHS[0], refused, name).status == 409
            made = id_in(mine.result())
            assert id_in(second.send(PATHS[0], body_of(PATHS[0], 1), name)) == made
            assert first.send(PATHS[0], body_of(PATHS[0], 2), name).status == 202


def test_names_that_an_older_release_has_kept_are_of_who_submitted_the_task(api, person):
    first, second = person(), person()
    made = {path: id_in(first.send(path, body_of(path, 1), path)) for path in PATHS[:2]}
    databases.execute(api.database_url, "UPDATE idempotency SET owner = NULL")
    for path, task_id in made.items():
        others = id_in(second.send(path, body_of(path, 1), path))
        assert others != task_id
        assert id_in(first.send(path, body_of(path, 1), path)) == task_id
        assert first.send(path, body_of(path, 2), path).status == 422
        assert id_in(second.send(path, body_of(path, 1), path)) == others


def test_what_was_submitted_while_nobody_needed_a_key_is_of_who_repeats_it(api, person):
    made = id_in(api.post(PATHS[0], body_of(PATHS[0], 1), headers={"idempotency-key": "k"}))
    who = person()
    wait.until(lambda: api.get("/queues").status == 401, 10, what="the API asks for keys")
    assert id_in(who.send(PATHS[0], body_of(PATHS[0], 1), "k")) == made
    assert id_in(who.send(PATHS[0], body_of(PATHS[0], 2), "k")) != made


def test_replace_ends_ones_own_task_and_another_keys_only_with_the_scope_for_it(api, person):
    first, second, mighty = person(), person(), person(KeyScope.SUBMIT, KeyScope.CONTROL)
    holder = id_in(first.submit(unique_key="u"))
    refused = second.submit(unique_key="u", unique_policy="replace")
    assert (refused.status, refused.json()["code"]) == (403, "scope_missing")
    assert "tasks:control" in refused.json()["detail"]
    assert holder not in refused.body.decode()
    batch = second.send(PATHS[1], {"tasks": [{"task_type": ANYTHING, "unique_key": "u", "unique_policy": "replace"}]})
    assert (batch.status, batch.json()["errors"][0]["pointer"]) == (403, "#/tasks/0/unique_key")
    other = id_in(second.submit())
    rerun = second.send(f"/tasks/{other}/rerun", {"unique_key": "u", "unique_policy": "replace"})
    assert rerun.status == 403
    assert state_of(api, holder) == "PENDING"
    own = id_in(first.submit(unique_key="u", unique_policy="replace"))
    assert (state_of(api, holder), state_of(api, own)) == ("REVOKED", "PENDING")
    id_in(mighty.submit(unique_key="u", unique_policy="replace"))
    assert state_of(api, own) == "REVOKED"
    ledger_checks.assert_sound(api.database_url)


def test_of_keys_that_replace_one_another_at_once_nobody_ends_anothers_task(api, person):
    people = [person() for _ in range(4)]

    def use(who):
        return who.id, who.submit(unique_key="hot", unique_policy="replace")

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(use, people * 15))
    assert {answer.status for _, answer in answers} <= {202, 403}
    [winner] = {who for who, answer in answers if answer.status == 202}
    ends = databases.rows(
        api.database_url,
        "SELECT s.actor, e.actor FROM task_event e JOIN task_event s ON s.task_id = e.task_id AND s.seq = 1 "
        "WHERE e.kind = 'revoked'",
    )
    assert {actor for pair in ends for actor in pair} == {f"key:{winner}"}
    assert len(ends) == len([1 for _, answer in answers if answer.status == 202]) - 1


@pytest.mark.parametrize("policy", ["return_existing", "reject"])
def test_who_may_not_read_tasks_is_not_told_which_one_of_anothers_holds_a_unique_key(api, person, policy):
    first, second, reader = person(), person(), person(KeyScope.SUBMIT, KeyScope.READ)
    holder = id_in(first.submit(unique_key="u"))
    item = {"task_type": ANYTHING, "unique_key": "u", "unique_policy": policy}
    for answer in (second.submit(**item), second.send(PATHS[1], {"tasks": [item]}), second.send(PATHS[0], item, "k")):
        assert (answer.status, answer.json()["code"]) == (409, "duplicate_task")
        assert "tasks:read" in answer.json()["detail"]
        assert holder not in answer.body.decode()
    for who in (first, reader):
        assert holder in who.submit(**item).body.decode()
