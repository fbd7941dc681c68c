"""Where no key is needed only names that no stranger can have chosen are served; other sites' pages change nothing."""

from __future__ import annotations

import pytest

from ledgerq_shared.errors import HostNotAllowed, OriginNotAllowed
from ledgerq_shared.hosts import Hosts
from tests.support import api as api_support
from tests.support import http
from tests.support.api import ANYTHING

BODY = {"task_type": ANYTHING}


def submit(api, **headers):
    return http.request("POST", f"{api.url}/tasks/submit", BODY, headers=headers)


@pytest.mark.parametrize(
    "host", ["rebind.evil.example", "rebind.evil.example:8000", "127.0.0.1.nip.example", "0x7f.1.example"]
)
def test_a_strangers_name_for_us_is_refused_while_no_key_is_needed(api, host):
    for answer in (submit(api, host=host), api.get("/tasks/", headers={"host": host})):
        assert (answer.status, answer.json()["code"]) == (403, "host_not_allowed")
        assert "LEDGERQ_ALLOWED_HOSTS" in answer.json()["detail"]
    assert api.get("/tasks/").json()["total_count"] == 0


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "api.localhost", "127.0.0.1:1", "[::1]:8000", "10.1.2.3", "localhost."]
)
def test_loopback_names_and_addresses_are_served(api, host):
    assert submit(api, host=host).status == 202


def test_the_setting_names_further_hosts_and_their_pages(database, redis_database):
    api_support.register(database, *api_support.CATALOGUE)
    with api_support.serve(database, redis_database, allowed_hosts="Queue.example.org, .inside.example") as api:
        for host in ("queue.example.org", "queue.example.org:8443", "a.b.inside.example"):
            assert submit(api, host=host).status == 202
            assert submit(api, origin=f"https://{host}").status == 202
        assert submit(api, host="example.org").status == 403
        assert submit(api, host="inside.example").status == 403


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example", "http://127.0.0.1:1"]
)
def test_a_page_of_another_site_changes_nothing(api, origin):
    task_id = api.submit()
    for method, path in (
        ("POST", "/tasks/submit"),
        ("POST", "/tasks/submit/batch"),
        ("POST", f"/tasks/{task_id}/cancel"),
        ("POST", f"/tasks/{task_id}/rerun"),
        ("PUT", "/queues/default"),
        ("POST", "/queues/default/pause"),
    ):
        answer = http.request(method, api.url + path, BODY, headers={"origin": origin})
        assert (answer.status, answer.json()["code"]) == (403, "origin_not_allowed"), path
    assert api.status(task_id)["status"] == "PENDING"
    assert api.get("/tasks/", headers={"origin": origin}).status == 200


def test_our_own_page_may_change_something(api):
    assert submit(api, origin=api.url).status == 202


def test_whoever_lists_any_host_means_it():
    hosts = Hosts(["*"])
    hosts.check("POST", [(b"host", b"x"), (b"origin", b"https://whatever.example")], needs_key=False)
    for headers in ([(b"host", b"x" * 5000)], [(b"host", b"")], [(b"host", b"\xff\xfe")]):
        with pytest.raises(HostNotAllowed):
            Hosts([]).check("GET", headers, needs_key=False)
    with pytest.raises(OriginNotAllowed):
        Hosts([]).check("DELETE", [(b"origin", b"https://x")], needs_key=True)
