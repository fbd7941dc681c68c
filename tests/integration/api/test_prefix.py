"""Below a proxy's path everything works, whether the proxy takes the path away or not; a stranger's word is not believed."""

from __future__ import annotations

import asyncio

import pytest

from ledgerq_api.requests.prefix import Proxied
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


@pytest.mark.parametrize(
    ("peer", "lines", "address"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["192.0.2.7"], "203.0.113.9"),  # no proxy of ours: not believed
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["192.0.2.7, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["192.0.2.7", "203.0.113.9"], "203.0.113.9"),  # the proxy adds a line of its own
        ("10.0.0.1", ["192.0.2.7, 203.0.113.9, 10.0.0.2", "10.9.9.9"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9:41234"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8::7]:41234"], "2001:db8::7"),
        ("10.0.0.1", ["192.0.2.7, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.7, 203.0.113.9, evil\x1b[31m"], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.7, 203.0.113.9, ::ffff:10.0.0.2"], "203.0.113.9"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", [",, ,"], "10.0.0.1"),
    ],
)
def test_the_clients_address_is_what_the_last_stranger_was_seen_with_and_not_what_it_says(peer, lines, address):
    seen = []

    async def app(scope, _receive, _send):
        seen.append(scope["client"][0])

    proxied = Proxied(app, prefix="", proxies=ApiSettings(trusted_proxies="10.0.0.0/8").proxies)
    headers = [(b"x-forwarded-for", line.encode("latin-1")) for line in lines]
    scope = {"type": "http", "path": "/", "client": (peer, 1), "headers": [(b"host", b"x"), *headers]}
    asyncio.run(proxied(scope, None, None))
    assert seen == [address]


def test_a_refusal_behind_a_proxy_is_logged_with_the_clients_address(stack):
    stack.environment |= {"LEDGERQ_TRUSTED_PROXIES": "127.0.0.0/8", "LEDGERQ_ALLOW_ANONYMOUS": "false"}
    api = stack.api()
    headers = {"origin": "https://evil.example", "x-forwarded-for": "192.0.2.7, 203.0.113.9"}
    assert http.request("POST", f"{api.url}/tasks/submit", {"task_type": ANYTHING}, headers=headers).status == 403
    line = api.says("origin_not_allowed")
    assert "203.0.113.9" in line
    assert "192.0.2.7" not in line
