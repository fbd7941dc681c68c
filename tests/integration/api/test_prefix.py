"""Below a proxy's path everything works, whether the proxy takes the path away or not; a stranger's word is not believed."""

from __future__ import annotations

import pytest

from ledgerq_api.settings import ApiSettings
from tests.support import api as api_support
from tests.support import http
from tests.support.api import ANYTHING


@pytest.fixture
def below(database, redis_database):
    api_support.register(database, *api_support.CATALOGUE)
    with api_support.serve(database, redis_database, root_path="/queue/") as api:
        yield api


@pytest.mark.parametrize("passed_on", ["", "/queue"])
def test_all_that_leaves_begins_with_the_prefix(below, passed_on):
    answer = http.request("POST", f"{below.url}{passed_on}/tasks/submit", {"task_type": ANYTHING})
    task_id = answer.json()["task_id"]
    assert answer.headers["location"] == f"/queue/tasks/{task_id}/status"
    assert http.request("GET", below.url + answer.headers["location"]).status == 200
    detail = http.request("GET", f"{below.url}{passed_on}/tasks/{task_id}").json()
    links = detail["links"]
    assert links["self"] == f"/queue/tasks/{task_id}"
    assert all(link.startswith("/queue/") for link in links.values() if isinstance(link, str))
    again = http.request("POST", f"{below.url}{passed_on}/tasks/{task_id}/rerun", {})
    assert again.headers["location"].startswith("/queue/tasks/")
    for path in ("/", "/docs", "/docs/page.js", "/livez", "/openapi.json"):
        assert http.request("GET", f"{below.url}{passed_on}{path}").status in {200, 307}, path
    assert http.request("GET", f"{below.url}/queuex/livez").status == 404


def test_keys_are_asked_for_below_the_prefix_too(database, redis_database):
    with api_support.serve(database, redis_database, root_path="/q", allow_anonymous=False) as api:
        api.services.keyring.is_required = True
        assert http.request("GET", f"{api.url}/q/queues").status == 401
        assert http.request("GET", f"{api.url}/q/livez").status == 200


def test_a_named_proxy_is_believed_and_nobody_else(database, redis_database):
    api_support.register(database, *api_support.CATALOGUE)
    headers = {"x-forwarded-prefix": "/deep/down", "x-forwarded-for": "203.0.113.9, 127.0.0.1"}
    for proxies, begins in (("127.0.0.0/8, ::1", "/deep/down/tasks/"), ("10.0.0.0/8", "/tasks/"), ("", "/tasks/")):
        with api_support.serve(database, redis_database, trusted_proxies=proxies) as api:
            answer = api.post("/tasks/submit", {"task_type": ANYTHING}, headers=headers)
            assert answer.headers["location"].startswith(begins)
            evil = api.post("/tasks/submit", {"task_type": ANYTHING}, headers={"x-forwarded-prefix": "//evil.example"})
            assert evil.headers["location"].startswith("/tasks/")


@pytest.mark.parametrize(
    "bad", [{"root_path": "queue"}, {"root_path": "//evil"}, {"root_path": "/a b"}, {"trusted_proxies": "proxy.local"}]
)
def test_a_setting_that_cannot_be_is_refused(bad):
    with pytest.raises(ValueError, match=r"root_path|trusted_proxies"):
        ApiSettings(**bad)
