"""Task types, queues, workers, health, and what every answer has in common."""

from __future__ import annotations

import http.client
import socket
from urllib.parse import urlsplit

import pytest

from ledgerq_shared.states import State
from tests.support import api as api_support
from tests.support import databases
from tests.support import http as client
from tests.support.api import ANYTHING, CATALOGUE, PROCESS_DOCUMENT
from tests.support.lives import Worker
from tests.support.ports import free_port
from tests.support.proxy import Proxy


def test_the_catalogue_shows_schemas_and_who_serves_them(api):
    with Worker(api.database_url):
        listed = api.get("/task-types").json()
    assert listed["total_count"] == len(CATALOGUE)
    assert [entry["name"] for entry in listed["task_types"]] == sorted(entry.name for entry in CATALOGUE)
    entry = api.get(f"/task-types/{PROCESS_DOCUMENT}").json()
    assert entry["parameters_schema"]["required"] == ["document_id"]
    assert (entry["queue"], entry["doc"], entry["live_workers"]) == ("documents", "Read a document.", [])
    assert api.get(f"/task-types/{ANYTHING}").json()["live_workers"] == ["node-1:1"]


def test_an_unknown_type_is_404_with_near_matches(api):
    answer = api.get("/task-types/process_document")
    assert (answer.status, answer.json()["code"]) == (404, "task_type_not_found")
    assert answer.json()["suggestions"] == [PROCESS_DOCUMENT]


def test_an_empty_catalogue_is_an_empty_list(bare_api):
    assert bare_api.get("/task-types").json() == {"task_types": [], "total_count": 0}


def test_queues_show_depth_by_state_age_and_slots(api):
    ids = [api.submit() for _ in range(3)]
    api.submit(PROCESS_DOCUMENT, {"document_id": "x"})
    with Worker(api.database_url, queues=("default",)) as worker:
        worker.end(worker.claim()[ids[0]], State.SUCCESS)
    queues = {queue["name"]: queue for queue in api.get("/queues").json()["queues"]}
    assert queues["default"]["counts"] == {
        "PENDING": 2,
        "STARTED": 0,
        "RETRY": 0,
        "SUCCESS": 1,
        "FAILURE": 0,
        "REVOKED": 0,
    }
    assert (queues["default"]["worker_slots"], queues["default"]["oldest_ready_seconds"]) == (2, None)
    assert (queues["documents"]["worker_slots"], queues["documents"]["paused"]) == (0, False)
    assert queues["documents"]["oldest_ready_seconds"] >= 0


def test_workers_show_what_they_run(api):
    ids = [api.submit() for _ in range(2)]
    with Worker(api.database_url) as worker:
        claimed = worker.claim()
        worker.begin(claimed[ids[0]])
        listed = api.get("/workers").json()
    assert listed["total_count"] == 1
    [entry] = listed["workers"]
    assert (entry["name"], entry["slots"], entry["pool"]) == ("node-1:1", 2, "prefork")
    assert [task["task_id"] for task in entry["running"]] == [ids[0]]
    assert entry["heartbeat_age_seconds"] >= 0


def test_a_worker_whose_lease_is_over_is_not_live_though_nobody_declared_it_dead(api):
    """Where no maintenance runs, nobody does; what people are told must be true then too."""

    def seen():
        queues = {queue["name"]: queue for queue in api.get("/queues").json()["queues"]}
        return (
            queues["default"]["worker_slots"],
            api.get("/workers").json()["total_count"],
            api.get(f"/task-types/{ANYTHING}").json()["live_workers"],
            (health := api.get("/health").json())["live_workers"],
            health["worker_slots"],
            [finding["code"] for finding in api.get(f"/tasks/{task_id}/explain").json()["findings"]],
        )

    task_id = api.submit()
    with Worker(api.database_url):
        assert seen() == (2, 1, ["node-1:1"], 1, 2, ["next"])
        databases.execute(api.database_url, "UPDATE worker SET lease_until = now() - interval '1 second'")
        assert seen() == (0, 0, [], 0, 0, ["no_worker_for_queue"])


def test_with_both_stores_it_is_alive_ready_and_healthy(api):
    assert api.get("/livez").json() == {"status": "alive"}
    ready = api.get("/readyz").json()
    assert (ready["status"], set(ready["checks"])) == ("ready", {"ledger", "broker"})
    health = api.get("/health").json()
    assert (health["status"], health["task_types"], health["live_workers"]) == ("healthy", len(CATALOGUE), 0)


def test_without_redis_it_is_ready_but_degraded(database):
    with api_support.serve(database, f"redis://:secret@127.0.0.1:{free_port()}/0") as api:
        ready = api.get("/readyz")
        assert (ready.status, ready.json()["status"]) == (200, "degraded")
        assert ready.json()["checks"]["broker"]["status"] == "degraded"
        health = api.get("/health")
        assert (health.status, health.json()["status"]) == (200, "degraded")
        assert b"secret" not in ready.body + health.body


def test_without_postgresql_it_is_alive_but_not_ready_and_nobody_knows_who_may_see_more():
    nowhere = f"postgresql://u:secret@127.0.0.1:{free_port()}/x"
    with api_support.serve(nowhere, f"redis://127.0.0.1:{free_port()}/0") as api:
        assert api.get("/livez").status == 200
        for path in ("/readyz", "/health", "/metrics"):
            answer = api.get(path)
            assert (answer.status, answer.json()["code"]) == (503, "ledger_unavailable")
            assert b"secret" not in answer.body


def test_when_postgresql_has_gone_health_and_metrics_still_answer(database, redis_database):
    with Proxy(database) as way, api_support.serve(way.url, redis_database) as api:
        assert (api.get("/health").status, api.get("/readyz").status) == (200, 200)
        way.__exit__(None, None, None)
        assert api.get("/livez").status == 200
        assert api.get("/readyz").json()["code"] == "ledger_unavailable"
        health = api.get("/health")
        assert (health.status, health.json()["status"]) == (503, "unhealthy")
        assert api.get("/metrics").status == 200


def test_every_json_answer_ends_with_a_newline(api):
    answers = [api.post("/tasks/submit", {"task_type": "a", "task_parameters": {}}), api.post("/tasks/submit", b"{")]
    task_id = api.submit(PROCESS_DOCUMENT, {"document_id": "doc-123"})
    paths = ("/livez", "/readyz", "/health", "/tasks/", "/workers", "/queues", "/task-types", "/scaling", "/nothing")
    answers += [api.get(path) for path in paths]
    answers += [api.get(f"/tasks/{task_id}{end}") for end in ("", "/status", "/events", "/explain")]
    answers.append(api.post(f"/tasks/{task_id}/cancel", {}))
    for answer in answers:
        assert answer.body.endswith(b"}\n")
        assert answer.headers.get("content-length") == str(len(answer.body))
        assert answer.json()


def test_an_unknown_path_and_a_wrong_method_are_problems(bare_api):
    for method, path, status, code in (
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/tasks/submit", 405, "method_not_allowed"),
        ("DELETE", "/tasks/submit/batch", 405, "method_not_allowed"),
        ("POST", "/tasks/", 405, "method_not_allowed"),
        ("POST", "/livez", 405, "method_not_allowed"),
    ):
        answer = client.request(method, bare_api.url + path)
        problem = answer.json()
        assert (answer.status, problem["code"], problem["status"]) == (status, code, status)
        assert answer.headers["content-type"] == "application/problem+json"
        assert problem["instance"] == path
        assert problem["type"].endswith(code)
        assert ("allow" in answer.headers) == (status == 405)


def test_every_answer_has_a_request_id_and_security_headers(bare_api):
    answers = [bare_api.get(path) for path in ("/livez", "/nowhere", "/tasks/x/status", "/docs")]
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
    mine = bare_api.get("/livez", headers={"X-Request-ID": "mine-1"})
    assert mine.headers["x-request-id"] == "mine-1"
    assert bare_api.get("/livez", headers={"X-Request-ID": "a b"}).headers["x-request-id"] != "a b"


def test_the_root_leads_to_the_documentation(bare_api):
    answer = bare_api.get("/")
    assert answer.status in {302, 307}
    assert bare_api.get("/" + answer.headers["location"]).headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
def test_an_endless_body_is_cut_off(bare_api, declared):
    parts = urlsplit(bare_api.url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    piece = b"x" * 65_536
    headers = {"content-type": "application/json"} | ({"content-length": str(10**9)} if declared else {})
    body = b"" if declared else (piece for _ in range(1000))
    try:
        connection.request("POST", "/tasks/submit", body, headers, encode_chunked=not declared)
    except (BrokenPipeError, ConnectionResetError):
        return  # cut off while sending
    assert connection.getresponse().status == 413
    connection.close()


def test_a_client_that_hangs_up_in_the_middle_of_its_body_leaves_nothing(api):
    parts = urlsplit(api.url)
    with socket.create_connection((parts.hostname, parts.port)) as half:
        half.sendall(
            b"POST /tasks/submit HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"
        )
    assert api.get("/tasks/").json()["total_count"] == 0
