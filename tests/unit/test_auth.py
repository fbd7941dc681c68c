"""Scopes of calls, and how many requests a key may make."""

from __future__ import annotations

import pytest

from ledgerq_api.auth.key_scopes import KeyScope
from ledgerq_api.auth.keyring import Keyring
from ledgerq_api.auth.keys import digest_of, is_key, new_key, new_key_id
from ledgerq_api.auth.rates import Bucket
from ledgerq_api.auth.scopes import NEEDS, known_need, needed_for, template_of
from ledgerq_shared.statements.api_keys import UsableKey


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/tasks/submit", KeyScope.SUBMIT),
        ("GET", "/tasks/0198/status", KeyScope.READ),
        ("HEAD", "/tasks/0198/status", KeyScope.READ),
        ("GET", "/tasks/submit", KeyScope.READ),  # a task called "submit", to the router
        ("POST", "/tasks/0198/cancel", KeyScope.CONTROL),
        ("PUT", "/queues/a b", KeyScope.CONTROL),
        ("GET", "/metrics", KeyScope.READ),
        ("GET", "/livez", None),
        ("GET", "/docs", None),
        ("GET", "/livez/", KeyScope.ADMIN),
        ("POST", "/tasks/0198/status", KeyScope.ADMIN),
        ("GET", "/tasks//status", KeyScope.ADMIN),
        ("GET", "/tasks/0198/status/", KeyScope.ADMIN),
        ("GET", "//tasks/0198/status", KeyScope.ADMIN),
        ("DELETE", "/tasks/0198", KeyScope.ADMIN),
        ("GET", "/something/new", KeyScope.ADMIN),
    ],
)
def test_what_stands_in_no_table_needs_admin(method, path, scope):
    assert needed_for(method, path) == scope


def test_every_template_is_found_by_a_path_that_fits_it():
    for (method, path), scope in NEEDS.items():
        fitting = path.replace("{task_id}", "x").replace("{name}", "x")
        assert known_need(method, fitting) == scope
        assert template_of(fitting) == path


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/task-types/a/b/c", "/task-types/{name}"),
        ("/queues/a/b/pause", "/queues/{name}/pause"),
        ("/queues//pause", "/queues/{name}"),
        ("/queues/a/", "/queues/{name}"),
        ("/queues/", None),
        ("/tasks/", "/tasks/"),
        ("/tasks/a\n/status", "/tasks/{task_id}/status"),
        ("/tasks/a/b", None),
        ("/tasks//status", None),
        ("/tasks/a/status/", None),
        ("/livez", None),
        ("/", None),
    ],
)
def test_the_template_of_a_call_is_that_of_the_table(path, template):
    assert template_of(path) == template


def test_keys_are_long_random_and_recognisable():
    keys = {new_key() for _ in range(100)}
    assert len(keys) == len({new_key_id() for _ in range(100)}) == 100
    assert all(is_key(key) and key.startswith("lq_") and len(key) == 46 for key in keys)
    assert len(digest_of(b"x")) == 32


@pytest.mark.parametrize("text", ["", "short", "a" * 42, "a" * 201, "ä" * 50, "a" * 43 + "\n"])
def test_a_key_that_is_brought_along_must_be_as_long_as_ours(text):
    assert not is_key(text)


def test_a_bucket_gives_its_burst_at_once_and_its_rate_from_then_on():
    bucket = Bucket(2.0, 4.0, now=100.0)
    assert [bucket.take(100.0) for _ in range(5)] == [0, 0, 0, 0, 0.5]
    assert bucket.take(100.5) == 0
    assert bucket.take(100.5) == 0.5
    assert [bucket.take(1000.0) for _ in range(5)] == [0, 0, 0, 0, 0.5]


def test_a_key_ends_at_its_time_although_the_ledger_has_not_been_looked_at_since():
    now = 1000.0
    known = Keyring(None, is_open=False, clock=lambda: now)  # type: ignore[arg-type]
    key = new_key()
    scopes = [KeyScope.READ.value]
    known._keep([UsableKey(True, "k", memoryview(digest_of(key.encode())), scopes, 0.5, False)], now)
    for seconds, is_usable in ((0.0, True), (0.49, True), (0.5, False), (60.0, False)):
        now = 1000.0 + seconds
        assert (known.find(key.encode()) is not None) is is_usable
