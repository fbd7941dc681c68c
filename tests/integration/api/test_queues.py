"""Queues: how many new ones a key may name, and the list of them, page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from ledgerq_api.auth.key_scopes import KeyScope
from tests.support import api as api_support
from tests.support import databases, http, keys
from tests.support.api import ANYTHING, PROCESS_DOCUMENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.api import Api

MOST = 5


class Person(NamedTuple):
    """Somebody with a key of their own."""

    api: Api
    headers: dict[str, str]

    def submit(self, queue: str) -> http.Response:
        return self.api.post("/tasks/submit", {"task_type": ANYTHING, "queue": queue}, headers=self.headers)

    def submit_all(self, *queues: str) -> http.Response:
        tasks = [{"task_type": ANYTHING, "queue": queue} for queue in queues]
        return self.api.post("/tasks/submit/batch", {"tasks": tasks}, headers=self.headers)

    def put(self, queue: str) -> http.Response:
        return http.request("PUT", f"{self.api.url}/queues/{queue}", {"paused": True}, headers=self.headers)


@pytest.fixture
def api(database, redis_database) -> Iterator[Api]:
    api_support.register(database, *api_support.CATALOGUE)
    with api_support.serve(database, redis_database, queues_per_key=MOST) as running:
        yield running


@pytest.fixture
def person(api):
    def make() -> Person:
        return Person(api, keys.bearer(keys.make(api.database_url, KeyScope.SUBMIT, KeyScope.CONTROL)[1]))

    return make


def is_refused(answer, place="#/queue"):
    assert (answer.status, answer.json()["code"]) == (422, "too_many_queues")
    assert "LEDGERQ_QUEUES_PER_KEY" in answer.json()["detail"]
    return place in answer.json()["errors"][0].values()


def queues_in(api):
    return {name for (name,) in databases.rows(api.database_url, "SELECT name FROM queue")}


def test_a_key_names_a_bounded_number_of_new_queues_and_uses_all_that_exist(api, person):
    first, second = person(), person()
    assert {first.submit(f"mine-{number}").status for number in range(MOST)} == {202}
    assert is_refused(first.submit("one-more"))
    assert is_refused(first.submit_all("mine-0", "default", "one-more", "and-more"), "#/tasks/2/queue")
    assert is_refused(first.put("one-more"), "name")
    rerun = first.submit("default").json()["task_id"]
    assert is_refused(api.post(f"/tasks/{rerun}/rerun", {"queue": "one-more"}, headers=first.headers))
    assert second.submit("another's").status == 422  # a name that no new queue may have
    assert second.submit("anothers").status == 202
    for queue in ("mine-0", "default", "documents", "anothers"):
        assert first.submit(queue).status == 202
        assert first.submit_all(queue, queue).status == 202
    assert first.put("anothers").status == 200
    assert not queues_in(api) & {"one-more", "and-more"}


def test_forty_thousand_names_by_one_submitter_are_refused_and_leave_nothing_behind(api):
    anybody = Person(api, {})
    for part in range(4):
        assert is_refused(anybody.submit_all(*(f"q{part}-{number}" for number in range(10_000))), "#/tasks/0/queue")
    assert {anybody.submit(f"r{number}").status for number in range(MOST)} == {202}
    assert {anybody.submit(f"s{number}").status for number in range(20)} == {422}
    assert queues_in(api) == {f"r{number}" for number in range(MOST)}
    assert databases.rows(api.database_url, "SELECT count(*) FROM task") == [(MOST,)]


def test_the_bound_is_kept_by_another_process_and_after_a_restart(api, person, redis_database):
    who = person()
    assert who.submit_all(*(f"mine-{number}" for number in range(MOST))).status == 202
    with api_support.serve(api.database_url, redis_database, queues_per_key=MOST) as other:
        assert is_refused(Person(other, who.headers).submit("one-more"))
        assert Person(other, who.headers).submit("mine-0").status == 202
    with api_support.serve(api.database_url, redis_database, queues_per_key=0) as unbounded:
        assert Person(unbounded, who.headers).submit_all(*(f"more-{number}" for number in range(50))).status == 202


def test_queues_from_before_there_was_a_bound_are_nobodys(api, person):
    who = person()
    assert who.submit_all(*(f"old-{number}" for number in range(MOST))).status == 202
    databases.execute(api.database_url, "DELETE FROM queue")
    with_counts = [f"old-{number}" for number in range(MOST)]
    fresh = person()
    assert fresh.submit_all(*with_counts).status == 202
    assert fresh.submit_all(*(f"new-{number}" for number in range(MOST))).status == 202


def test_a_queue_that_exists_costs_no_statement(api, monkeypatch):
    api.submit(ANYTHING, queue="known")
    api.submit(PROCESS_DOCUMENT, {"document_id": "x"})

    def fail(*_args, **_more):
        raise AssertionError("PostgreSQL was asked for a queue that is known")

    monkeypatch.setattr("ledgerq_api.queues.naming.name_queues", fail)
    api.submit(ANYTHING, queue="known")
    api.submit(PROCESS_DOCUMENT, {"document_id": "x"})


def test_queues_are_listed_page_by_page_each_once(api):
    databases.execute(
        api.database_url, "INSERT INTO queue (name) SELECT 'queue ' || n FROM generate_series(1, 1100) AS s(n)"
    )
    api.submit(ANYTHING, queue="Zebra")
    everything = {"default", "documents", "Zebra", *(f"queue {number}" for number in range(1, 1101))}
    whole = api.get("/queues").json()
    assert (len(whole["queues"]), whole["total_count"]) == (1000, len(everything))
    seen, cursor = [], {}
    while True:
        page = api.get("/queues", page_size=300, **cursor).json()
        assert page["total_count"] == len(everything)
        seen += page["queues"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    names = [queue["name"] for queue in seen]
    assert (len(names), set(names)) == (len(everything), everything)
    assert names == sorted(names)
    assert [queue["counts"]["PENDING"] for queue in seen if queue["name"] == "Zebra"] == [1]
    assert api.get("/queues", cursor=whole["next_cursor"]).json()["queues"][0]["name"] == names[1000]
    assert api.get("/queues", page_size=0).status == api.get("/queues", cursor="a\0").status == 422


def test_who_reads_the_whole_list_of_a_thousand_queues_gets_it(api):
    databases.execute(
        api.database_url, "INSERT INTO queue (name) SELECT 'queue-' || n FROM generate_series(1, 998) AS s(n)"
    )
    whole = api.get("/queues").json()
    assert (len(whole["queues"]), whole["total_count"], whole["next_cursor"]) == (1000, 1000, None)
