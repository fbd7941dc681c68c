"""What can be listed can be addressed; what is asked in an address is understood wholly or refused."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from ledgerq_api.answers import languages
from ledgerq_api.auth.key_scopes import KeyScope
from ledgerq_api.auth.scopes import known_need
from ledgerq_shared.statements.catalogue import CatalogueEntry
from tests.support import api as api_support
from tests.support import databases, http
from tests.support.api import ANYTHING


@pytest.mark.parametrize("name", [".", ".."])
def test_a_queue_whose_name_leads_elsewhere_is_not_made(api, name):
    answer = api.post("/tasks/submit", {"task_type": ANYTHING, "queue": name})
    assert (answer.status, answer.json()["code"]) == (422, "invalid_request")


@pytest.mark.parametrize("name", ["...", "..a", ".a", "a.", "-", "a:b@c"])
def test_other_dots_are_harmless(api, name):
    assert api.post("/tasks/submit", {"task_type": ANYTHING, "queue": name}).status == 202
    assert http.request("POST", f"{api.url}/queues/{name}/pause").json() == {"name": name, "paused": True}


@pytest.mark.parametrize("name", ["my queue", "a/b", "a/pause", "\u961f\u5217", "100%", "q?x#y"])
def test_a_queue_that_is_listed_can_be_paused_whatever_its_name(api, name):
    databases.execute(api.database_url, f"INSERT INTO queue (name) VALUES ('{name}')")
    assert name in [queue["name"] for queue in api.get("/queues").json()["queues"]]
    path = f"{api.url}/queues/{quote(name, safe='')}"
    assert http.request("POST", f"{path}/pause").json() == {"name": name, "paused": True}
    assert http.request("PUT", path, {"paused": False}).json() == {"name": name, "paused": False}
    assert api.get("/scaling", queue=name).status == 200


def test_a_new_queue_keeps_to_the_pattern_and_says_what_it_is_to_be(api):
    for name in ("my%20new", "x" * 200):
        answer = http.request("PUT", f"{api.url}/queues/{name}", {"paused": True})
        assert (answer.status, answer.json()["errors"][0]["parameter"]) == (422, "name")
    empty = http.request("PUT", f"{api.url}/queues/new", {})
    assert empty.status == 422, "an empty body says nothing, so it must not resume"


def test_a_task_type_with_slashes_in_its_name_is_shown(database, redis_database):
    api_support.register(database, CatalogueEntry("reports/daily/all", "", "{}", "default", "{}"))
    with api_support.serve(database, redis_database) as api:
        for name in ("reports/daily/all", quote("reports/daily/all", safe="")):
            assert api.get(f"/task-types/{name}").json()["name"] == "reports/daily/all"


def test_names_with_slashes_need_the_same_scope_as_others():
    assert known_need("GET", "/task-types/a/b/c") is KeyScope.READ
    assert known_need("POST", "/queues/a/b/pause") is KeyScope.CONTROL
    assert known_need("PUT", "/queues/a/b/pause") is KeyScope.CONTROL
    assert known_need("POST", "/queues/a/b") is None
    assert known_need("POST", "/queues//pause") is None
    assert known_need("GET", "/tasks/a/b") is None
    assert known_need("GET", "/tasks/a/status") is KeyScope.READ


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("/scaling?qeueu=x", "qeueu"),
        ("/queues?page=1", "page"),
        ("/health?verbose=1", "verbose"),
        ("/workers?x=", "x"),
        ("/task-types?name=a", "name"),
        ("/tasks/?page=1&page=2", "page"),
        ("/tasks?stat=SUCCESS", "stat"),
        ("/scaling?target_seconds=1&target_seconds=2", "target_seconds"),
        ("/tasks/00000000-0000-7000-8000-000000000001/status?wait=5", "wait"),
        ("/tasks/00000000-0000-7000-8000-000000000001/events?size=5", "size"),
    ],
)
def test_a_parameter_that_is_unknown_or_there_twice_is_named(api, address, named):
    answer = api.get(address)
    assert (answer.status, answer.json()["code"]) == (422, "invalid_request"), answer.body
    assert answer.json()["errors"][0]["parameter"] == named


def test_a_parameter_that_may_stand_there_twice_may(api):
    assert api.get("/scaling?queue=a&queue=b").status == 200


@pytest.mark.parametrize("offset", ["%2B16:00", "%2B23:59", "-23:59", "Z", "%2B00:00"])
def test_a_time_with_any_offset_is_understood(api, offset):
    api.submit()
    answer = api.get(
        f"/tasks/?submitted_after=2020-01-01T00:00:00{offset}&submitted_before=9999-01-01T00:00:00{offset}"
    )
    assert answer.json()["total_count"] == 1


def test_head_answers_as_get_does_without_a_body(api):
    task_id = api.submit()
    for path in (
        "/",
        "/livez",
        "/readyz",
        "/health",
        "/queues",
        "/workers",
        "/tasks/",
        f"/tasks/{task_id}",
        "/openapi.json",
    ):
        head, get = (http.request(method, api.url + path) for method in ("HEAD", "GET"))
        assert (head.status, head.body) == (get.status, b""), path
        assert head.headers.get("content-type") == get.headers.get("content-type")


@pytest.mark.parametrize("last", ["", "/status", "/stream", "/events"])
def test_an_error_names_the_address_as_it_came_also_where_an_id_has_a_slash(api, last):
    answer = api.get(f"/tasks/a%2Fb%2fc{last}")
    assert (answer.status, answer.json()["instance"]) == (404, f"/tasks/a%2Fb%2Fc{last}")
    assert answer.json()["detail"] == "No task has the id a/b/c."


@pytest.mark.parametrize("path", ["/queues/", "/workers/", "/task-types/", "/health/", "/tasks/submit/"])
def test_no_redirect_is_made_of_the_callers_host(api, path):
    answer = api.get(path, headers={"host": "127.0.0.1:1"})
    assert answer.status in {404, 405}
    assert "location" not in answer.headers


def test_the_way_to_the_documentation_stays_under_a_prefix(api):
    assert api.get("/").headers["location"] == "docs"


def test_a_language_header_is_not_kept_beyond_its_beginning():
    languages._chosen.cache_clear()
    for number in range(50):
        assert languages.choose(b"en;q=0.9, " + b"%d" % number + b"x" * 1_000_000, "zh") == "en"
    kept = languages._chosen.cache_info().currsize
    assert kept <= 50
    assert languages.choose(b"x" * 300 + b", en", "zh") == "zh"
