"""From the HTTP request to the worker's log lines and spans, through the ledger."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from tests.support import http, wait
from tests.support.lines import whole_lines

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"

TASKS = """
import logging
from celery import shared_task

@shared_task
def speaks(word):
    logging.getLogger("users.module").warning("said %s", word)

@shared_task
def asks_another():
    speaks.delay("by another")

@shared_task
def fails():
    raise ValueError("as asked")
"""


def started(stack, **environment: str):
    """An API and a worker that know the tasks, with logs for machines."""
    (stack.folder / "origin_tasks.py").write_text(TASKS)
    stack.environment.update(LEDGERQ_TASK_MODULES="origin_tasks", LEDGERQ_LOG_FORMAT="json", **environment)
    stack.register()
    return stack.api(), stack.worker()


def submit(api, name: str, headers: dict[str, str] | None = None, **parameters: Any) -> http.Response:
    body = {"task_type": f"origin_tasks.{name}", "task_parameters": parameters}
    answer = http.request("POST", f"{api.url}/tasks/submit", body, headers=headers)
    assert answer.status == 202
    return answer


def lines(running) -> list[dict[str, Any]]:
    return [json.loads(line) for line in whole_lines(running.log()) if line.startswith("{")]


def line(running, **fields: Any) -> dict[str, Any]:
    """The first line with these fields, once it is there."""

    def find() -> dict[str, Any] | None:
        return next((one for one in lines(running) if fields.items() <= one.items()), None)

    found = wait.until(find, 30, what=lambda: f"{fields} in:\n{running.log()}")
    assert found
    return found


def test_the_requests_id_and_trace_are_in_what_the_task_logs(stack):
    api, worker = started(stack)
    sent = {"x-request-id": "order-7", "traceparent": TRACEPARENT}
    task_id = submit(api, "speaks", sent, word="hello").json()["task_id"]
    found = line(worker, event="said hello")
    assert (found["request_id"], found["trace_id"]) == ("order-7", TRACE_ID)
    assert (found["task_id"], found["attempt"], found["service"]) == (task_id, 1, "worker")

    detail = http.request("GET", f"{api.url}/tasks/{task_id}").json()
    assert (detail["request_id"], detail["trace_id"]) == ("order-7", TRACE_ID)

    answer = submit(api, "speaks", {"traceparent": "nonsense"}, word="again")
    detail = http.request("GET", f"{api.url}/tasks/{answer.json()['task_id']}").json()
    assert (detail["request_id"], detail["trace_id"]) == (answer.headers["x-request-id"], None)
    found = line(worker, event="said again")
    assert found["request_id"] == answer.headers["x-request-id"]
    assert "trace_id" not in found

    submit(api, "asks_another", sent)
    assert line(worker, event="said by another")["request_id"] == "order-7"

    body = {"tasks": [{"task_type": "origin_tasks.speaks", "task_parameters": {"word": "in a batch"}}]}
    http.request("POST", f"{api.url}/tasks/submit/batch", body, headers=sent)
    assert line(worker, event="said in a batch")["trace_id"] == TRACE_ID


def test_spans_of_request_and_attempt_are_joined_by_the_ledger(stack):
    api, worker = started(stack, LEDGERQ_TRACING="console")
    task_id = submit(api, "fails", {"traceparent": TRACEPARENT}).json()["task_id"]
    attempt = line(worker, name="origin_tasks.fails")
    assert attempt["context"]["trace_id"] == f"0x{TRACE_ID}"
    assert attempt["attributes"]["ledgerq.task_id"] == task_id
    assert attempt["status"]["status_code"] == "ERROR"
    assert attempt["events"][0]["attributes"]["exception.type"] == "ValueError"
    assert attempt["resource"]["attributes"]["service.name"] == "ledgerq-worker"
    requests = [one for one in lines(api) if one.get("context", {}).get("span_id") == attempt["parent_id"]]
    assert [one["parent_id"] for one in requests] == ["0xb7ad6b7169203331"]


def test_spans_go_to_a_collector(stack):
    received: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        endpoint = f"http://127.0.0.1:{server.server_port}"
        api, _ = started(stack, LEDGERQ_TRACING="otlp", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
        submit(api, "speaks", word="far away")
        wait.until(
            lambda: (
                {b"ledgerq-api", b"ledgerq-worker"}
                == {name for name in (b"ledgerq-api", b"ledgerq-worker") for _, body in received if name in body}
            ),
            30,
            what=lambda: str(received),
        )
        assert {path for path, _ in received} == {"/v1/traces"}
    finally:
        server.shutdown()
        server.server_close()
