"""`ledgerq-api` as a process: what it says when it cannot start, and how it ends."""

from __future__ import annotations

import concurrent.futures
import json
import signal
import socket
import time

import pytest

from tests.support import api as api_support
from tests.support import http, wait
from tests.support.api import ANYTHING
from tests.support.ports import free_port


def one_line(running, code):
    assert running.wait() == code, running.log()
    [line] = running.log().splitlines()
    assert line.startswith("ledgerq-api: ")
    return line


def test_a_port_in_use_is_one_line(stack):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = one_line(stack.start("api", "-m", "ledgerq_api", LEDGERQ_API_PORT=str(port)), 2)
    assert str(port) in line
    assert "in use" in line


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LEDGERQ_API_PORT", "many"),
        ("LEDGERQ_API_PORT", "70000"),
        ("LEDGERQ_LOCALE", "fr"),
        ("LEDGERQ_API_HOST", "0.0.0.0"),
        ("LEDGERQ_API_HOST", "no.such.host.invalid"),
        ("DATABASE_URL", "mysql://x"),
    ],
)
def test_a_bad_setting_is_one_line_that_names_it(stack, variable, value):
    line = one_line(stack.start("api", "-m", "ledgerq_api", **{variable: value}), 2)
    assert variable in line


def test_an_open_address_needs_a_key_or_a_word_of_consent(stack):
    line = one_line(stack.start("api", "-m", "ledgerq_api", LEDGERQ_API_HOST="0.0.0.0", LEDGERQ_API_PORT="0"), 2)
    assert "LEDGERQ_ALLOW_ANONYMOUS" in line
    assert "ledgerq keys create" in line
    api = stack.api(LEDGERQ_API_HOST="0.0.0.0", LEDGERQ_ALLOW_ANONYMOUS="true")
    assert "api.anonymous" in api.log()


def test_an_unreachable_postgresql_is_one_line_without_the_password(stack):
    url = f"postgresql://u:secret@127.0.0.1:{free_port()}/x"
    line = one_line(stack.start("api", "-m", "ledgerq_api", DATABASE_URL=url, LEDGERQ_API_PORT="0"), 1)
    assert "PostgreSQL" in line
    assert "secret" not in line


def test_a_database_without_tables_is_one_line(stack, empty_database):
    line = one_line(stack.start("api", "-m", "ledgerq_api", DATABASE_URL=empty_database, LEDGERQ_API_PORT="0"), 2)
    assert "ledgerq-migrate" in line


def test_it_starts_without_redis(stack):
    api = stack.api(REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert http.request("GET", f"{api.url}/readyz").json()["status"] == "degraded"


def test_sigterm_answers_those_who_wait_and_ends(stack, database):
    api_support.register(database, *api_support.CATALOGUE)
    api = stack.api()
    task_id = http.request("POST", f"{api.url}/tasks/submit", {"task_type": ANYTHING}).json()["task_id"]
    path = f"{api.url}/tasks/{task_id}/status"
    with concurrent.futures.ThreadPoolExecutor(1) as client:
        waiting = client.submit(http.request, "GET", path, headers={"Prefer": "wait=60"}, timeout=60)
        in_progress = "ledgerq_api_requests_in_progress 2"  # the long poll, and the one that asks
        wait.until(lambda: in_progress in http.request("GET", f"{api.url}/metrics").body.decode())
        api.send(signal.SIGTERM)
        assert api.wait(30) == 0
        answer = waiting.result(5)
    assert (answer.status, answer.json()["status"]) == (200, "PENDING")


def test_debug_logs_every_statement_and_otherwise_none(stack, database):
    api_support.register(database, *api_support.CATALOGUE)
    for debug in ("false", "true"):
        api = stack.api(LEDGERQ_DEBUG=debug, LEDGERQ_LOG_FORMAT="json")
        assert http.request("GET", f"{api.url}/tasks/").status == 200
        api.stop()
        events = [json.loads(line)["event"] for line in api.log().splitlines()]
        assert ("database.statement" in events) == (debug == "true")


def test_an_edit_of_a_task_module_reloads_the_api(stack, database):
    api_support.register(database, *api_support.CATALOGUE)
    module = stack.folder / "my_tasks.py"
    module.write_text("VALUE = 1\n")
    api = stack.api(LEDGERQ_API_RELOAD="true")

    def begun():
        return http.request("GET", f"{api.url}/health").json()["uptime_seconds"]

    def reloaded():
        try:
            # A process begun after the edit is younger than the edit; the one before it is older.
            return begun() < time.monotonic() - edited_at
        except (OSError, ConnectionError):
            return False

    wait.until(begun)
    edited_at = time.monotonic()
    module.write_text("VALUE = 2\n")
    wait.until(reloaded, 60, what=api.log)
    assert api.stop() == 0
    wait.until(lambda: api.descendants() == [], 20, what="the reloaded process ends, too")
