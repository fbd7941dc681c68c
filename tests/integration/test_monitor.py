from __future__ import annotations

import json

from tests.support import http
from tests.support.ports import free_port


def test_a_monitor_with_both_stores_is_ready_and_says_so(stack):
    monitor = stack.monitor()
    assert http.request("GET", f"{monitor.url}/livez").json() == {"status": "ok"}
    assert http.request("GET", f"{monitor.url}/readyz").json() == {"status": "ok"}
    health = http.request("GET", f"{monitor.url}/health").json()
    assert health["status"] == "ok"
    assert {name: store["well"] for name, store in health["stores"].items()} == {
        "postgresql": True,
        "redis": True,
    }


def test_a_monitor_without_redis_lives_but_is_not_ready_and_names_no_password(stack):
    monitor = stack.monitor(REDIS_URL=f"redis://:secret@127.0.0.1:{free_port()}/0")
    assert http.request("GET", f"{monitor.url}/livez").status == 200
    assert http.request("GET", f"{monitor.url}/readyz").status == 503
    health = http.request("GET", f"{monitor.url}/health")
    assert health.json()["status"] == "degraded"
    assert health.json()["stores"]["redis"]["error"] == "ConnectionError"
    assert b"secret" not in health.body
    assert "secret" not in monitor.log()


def test_the_monitor_and_flower_say_once_where_they_listen(stack):
    for running, event in ((stack.monitor(), "monitor.listening"), (stack.flower(), "flower.listening")):
        said = [line for line in map(json.loads, running.log().splitlines()) if line["event"] == event]
        assert [(line["level"], line["url"]) for line in said] == [("info", running.url)]


def test_a_monitor_without_postgresql_lives_but_is_not_ready(stack):
    monitor = stack.monitor(DATABASE_URL=f"postgresql://u:secret@127.0.0.1:{free_port()}/x")
    assert http.request("GET", f"{monitor.url}/livez").status == 200
    assert http.request("GET", f"{monitor.url}/readyz").status == 503
    assert "secret" not in monitor.log()


def test_where_others_reach_it_a_token_is_needed_or_the_word_that_none_is(stack):
    refused = stack.start("monitor", "-m", "ledgerq_monitor", LEDGERQ_MONITOR_HOST="0.0.0.0")
    assert refused.wait() == 2
    [line] = refused.log().splitlines()
    assert line.startswith("ledgerq-monitor: LEDGERQ_MONITOR_HOST=0.0.0.0")
    assert "LEDGERQ_MONITOR_TOKEN" in line
    assert "LEDGERQ_MONITOR_ALLOW_ANONYMOUS" in line
    with_token = stack.monitor(LEDGERQ_MONITOR_HOST="0.0.0.0", LEDGERQ_MONITOR_TOKEN="s3cret")
    assert http.request("GET", f"{with_token.url}/metrics").status == 401
    for_all = stack.monitor(LEDGERQ_MONITOR_HOST="0.0.0.0", LEDGERQ_MONITOR_ALLOW_ANONYMOUS="true")
    assert http.request("GET", f"{for_all.url}/metrics").status == 200


def test_without_a_token_only_names_that_no_stranger_can_have_chosen_are_served(stack):
    monitor = stack.monitor()
    for path in ("/metrics", "/health"):
        assert http.request("GET", monitor.url + path, headers={"host": "rebind.evil.example"}).status == 403
        assert http.request("GET", monitor.url + path, headers={"host": "localhost:8001"}).status == 200


def test_what_a_scraper_adds_to_the_address_changes_nothing(stack):
    monitor = stack.monitor()
    for query in ("", "?x=1", "?name%5B%5D=ledgerq_tasks"):
        answer = http.request("GET", f"{monitor.url}/metrics{query}")
        assert answer.status == 200
        assert b"ledgerq_queue_" in answer.body


def test_a_bad_setting_is_one_line_and_exit_code_2(stack):
    monitor = stack.start("monitor", "-m", "ledgerq_monitor", LEDGERQ_MONITOR_PORT="many")
    assert monitor.wait() == 2
    assert monitor.log().startswith("ledgerq-monitor: LEDGERQ_MONITOR_PORT")
    assert len(monitor.log().splitlines()) == 1


def test_sigterm_stops_the_monitor(stack):
    monitor = stack.monitor()
    monitor.stop()
    assert not monitor.alive()
