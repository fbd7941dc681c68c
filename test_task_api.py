"""Try every call of a running LedgerQ server and compare each answer with what is promised.

    python test_task_api.py [--base-url http://127.0.0.1:8000] [--api-key KEY] [--timeout 60]

The key may also stand in LEDGERQ_API_KEY. Prints what it does; exits 0 when everything is as documented,
1 when anything differs, 2 when the server cannot be reached or does not take the key. Needs nothing
but Python 3.11, and a worker that serves the example tasks.
"""

import argparse
import http.client
import json
import os
import re
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode, urlsplit

EXAMPLES = "clients.celery.example_tasks"
FINAL = {"SUCCESS", "FAILURE", "REVOKED"}
STATES = FINAL | {"PENDING", "STARTED", "RETRY"}
# RFC 3339, UTC, with a Z
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")

STATUS_FIELDS = {
    "task_id", "task_type", "status", "submitted_at", "started_at", "completed_at", "progress", "result",
    "attempt", "max_attempts", "queue", "error", "run_at", "cancel_requested", "worker",
}  # fmt: skip
LIST_FIELDS = {"task_id", "task_type", "status", "submitted_at", "completed_at"}
DETAIL_FIELDS = STATUS_FIELDS | {"parameters", "attempts", "metadata", "links"}
EVENT_FIELDS = {"seq", "kind", "at", "attempt", "actor", "data"}
PROBLEM_FIELDS = {"type", "title", "status", "detail", "code"}
PATHS = {
    "/tasks/submit", "/tasks/submit/batch", "/tasks/{task_id}/status", "/tasks/", "/tasks/{task_id}",
    "/tasks/{task_id}/events", "/task-types", "/task-types/{name}", "/livez", "/readyz", "/health",
}  # fmt: skip

USERS_EXAMPLE = {
    "task_type": f"{EXAMPLES}.process_document",
    "task_parameters": {"document_id": "doc-123", "options": {"format": "pdf", "quality": "high"}},
}


class UnreachableError(Exception):
    """Nobody answers at the base URL."""


class KeyNeededError(Exception):
    """The server asks for an API key that we do not have, or does not know ours, or gives it too few rights."""


class Answer:
    """One response: `status`, `headers` (names in lower case), and `body`, decoded when it is JSON."""

    def __init__(self, response):
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.media_type = self.headers.get("content-type", "").partition(";")[0]
        text = response.read().decode()
        self.body = json.loads(text) if self.media_type.endswith("json") and text else text


class Server:
    """The server under test, and the differences found so far."""

    def __init__(self, base_url, api_key, timeout):
        self._base = urlsplit(base_url.rstrip("/"))
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.timeout = timeout
        self.differences = 0
        self.checks = 0

    def call(self, method, path, body=None, **headers):
        """Send one request; `body` may be bytes or anything that JSON can express."""
        secure = self._base.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(self._base.hostname, self._base.port, timeout=30)
        sent = self._headers | {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, self._base.path + path, body, sent)
            return Answer(connection.getresponse())
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(f"{method} {path}: {error}") from error
        finally:
            connection.close()

    def get(self, path, **query):
        """Read `path`."""
        return self.call("GET", f"{path}?{urlencode(query)}" if query else path)

    def check(self, what, expected, actual):
        """Note and print a difference; True when there is none."""
        self.checks += 1
        if expected == actual:
            return True
        self.differences += 1
        print(f"   DIFFERENT  {what}: expected {expected!r}, got {actual!r}")
        return False

    def check_that(self, what, holds):
        """Note a difference unless `holds` is true."""
        return self.check(what, True, bool(holds))

    def check_fields(self, what, expected, body):
        """All `expected` fields are there; more may be."""
        actual = set(body) if isinstance(body, dict) else set()
        return self.check(f"{what}: missing fields", [], sorted(expected - actual))

    def check_time(self, what, value):
        """Note a difference unless `value` is a time as the API writes it."""
        holds = isinstance(value, str) and TIME.fullmatch(value)
        self.check_that(f"{what} is a time in UTC with Z, not {value!r}", holds)

    def check_problem(self, what, answer, status, code):
        """The answer is problem+json with this status and code; returns its body."""
        self.check(f"{what}: status", status, answer.status)
        self.check(f"{what}: content type", "application/problem+json", answer.media_type)
        body = answer.body if isinstance(answer.body, dict) else {}
        self.check_fields(what, PROBLEM_FIELDS, body)
        self.check(f"{what}: code", code, body.get("code"))
        self.check(f"{what}: status in the body", status, body.get("status"))
        return body

    def submit(self, name, parameters=None, **more):
        """Submit an example task; returns its id."""
        body = {"task_type": f"{EXAMPLES}.{name}", "task_parameters": parameters or {}} | more
        answer = self.call("POST", "/tasks/submit", body)
        self.check(f"submit {name}: status", 202, answer.status)
        return answer.body.get("task_id", "") if isinstance(answer.body, dict) else ""

    def wait(self, task_id):
        """Poll until the task is final; returns all different answers in order, checked one by one."""
        deadline = time.monotonic() + self.timeout
        seen = []
        while time.monotonic() < deadline:
            body = self.get(f"/tasks/{task_id}/status").body
            if not self.check_fields("status", STATUS_FIELDS, body):
                break
            if not seen or body != seen[-1]:
                seen.append(body)
                show(body)
            if body["status"] in FINAL:
                return seen
            time.sleep(0.1)
        self.check(f"task {task_id} ended within {self.timeout:g} s", True, False)
        return seen or [dict.fromkeys(STATUS_FIELDS)]


def show(body):
    progress = body["progress"] or {}
    shown = f"{progress['progress']:g}% {progress.get('status') or ''}" if progress else ""
    print(f"   {body['status']:<8} {shown}")


def health(server):
    """/livez, /readyz, /health, /docs and /openapi.json answer."""
    for path in ("/livez", "/readyz", "/health"):
        answer = server.get(path)
        server.check(f"{path}: status", 200, answer.status)
        server.check(f"{path}: content type", "application/json", answer.media_type)
    server.check("/docs: content type", "text/html", server.get("/docs").media_type)
    document = server.get("/openapi.json").body
    server.check_fields("/openapi.json", {"openapi", "info", "paths"}, document)
    server.check("/openapi.json: missing paths", set(), PATHS - set(document.get("paths", {})))


def users_example(server):
    """The users' example: doc-123 goes from PENDING to SUCCESS with 15 pages processed."""
    for language, message in (("en", "Task submitted"), ("zh-CN", "任务已成功提交")):
        answer = server.call("POST", "/tasks/submit", USERS_EXAMPLE, Accept_Language=language)
        server.check("submit: status", 202, answer.status)
        server.check("submit: fields", {"task_id", "status", "message"}, set(answer.body))
        server.check("submit: status word", "PENDING", answer.body["status"])
        server.check("submit: message", message, answer.body["message"])
        task_id = answer.body["task_id"]
        server.check("submit: the id is a UUID", task_id, str(uuid.UUID(task_id)))
        server.check_that(
            "submit: Location leads to the task", f"/tasks/{task_id}" in answer.headers.get("location", "")
        )
        print(f"   submitted {task_id}: {answer.body['message']}")
        seen = server.wait(task_id)
        check_life(server, seen)
    last = seen[-1]
    server.check("status: task_id", task_id, last["task_id"])
    server.check("status: task_type", USERS_EXAMPLE["task_type"], last["task_type"])
    server.check("status", "SUCCESS", last["status"])
    result = last["result"] or {}
    server.check_fields("result", {"document_id", "status", "pages_processed", "processing_time"}, result)
    server.check("result: document_id", "doc-123", result.get("document_id"))
    server.check("result: pages_processed", 15, result.get("pages_processed"))
    server.check("error of a success", None, last["error"])
    server.check("attempt", 1, last["attempt"])
    server.check("cancel_requested", False, last["cancel_requested"])
    server.check("progress at the end", 100, (last["progress"] or {}).get("progress"))
    return task_id


def check_life(server, seen):
    """States only move on, progress only rises, and the times are in order."""
    rank = {"PENDING": 0, "STARTED": 1, "SUCCESS": 2, "FAILURE": 2, "REVOKED": 2}
    states = [body["status"] for body in seen]
    server.check("states are Celery's", set(), set(states) - STATES)
    server.check("states move on", sorted(states, key=lambda state: rank.get(state, 1)), states)
    reported = [body["progress"] for body in seen if body["progress"]]
    for progress in reported:
        server.check_fields("progress", {"progress", "status", "timestamp"}, progress)
        server.check_time("progress.timestamp", progress.get("timestamp"))
    percentages = [progress["progress"] for progress in reported]
    server.check("progress only rises", sorted(percentages), percentages)
    last = seen[-1]
    times = [last["submitted_at"], last["started_at"], last["completed_at"]]
    for name, value in zip(("submitted_at", "started_at", "completed_at"), times, strict=True):
        server.check_time(name, value)
    instants = [datetime.fromisoformat(str(value)) for value in times]
    server.check_that(f"times are in order: {times}", instants == sorted(instants))
    for body in seen[:-1]:
        server.check("completed_at before the end", None, body["completed_at"])


def moving_progress(server):
    """A long task shows its progress while it runs."""
    task_id = server.submit("long_running", {"limit": 1_000_000_000})
    seen = server.wait(task_id)
    check_life(server, seen)
    running = {body["progress"]["progress"] for body in seen if body["status"] == "STARTED" and body["progress"]}
    server.check_that(f"progress moves while the task runs (saw {sorted(running)})", len(running) >= 2)
    server.check("primes up to 1,000,000,000", 50_847_534, (seen[-1]["result"] or {}).get("primes"))


def reading_again(server, task_id):
    """A status has an ETag; `Prefer: wait` holds the answer until the task ends."""
    path = f"/tasks/{task_id}/status"
    tag = server.get(path).headers.get("etag")
    server.check_that("status: ETag", tag)
    again = server.call("GET", path, If_None_Match=tag or "")
    server.check("status with the known ETag", (304, ""), (again.status, again.body))
    waiting = server.submit("checksum_file", {"document_id": "doc-123"})
    deadline = time.monotonic() + server.timeout
    state, tag, changes = None, "", 0
    while state not in FINAL and time.monotonic() < deadline:
        known = {"If_None_Match": tag} if tag else {}
        answer = server.call("GET", f"/tasks/{waiting}/status", Prefer="wait=10", **known)
        tag = answer.headers.get("etag", "")
        if answer.status == 200:
            state, changes = answer.body["status"], changes + 1
    print(f"   {changes} answers until {state}")
    server.check("status with Prefer: wait", "SUCCESS", state)


def batch(server):
    """A batch is accepted whole or not at all."""
    item = {"task_type": f"{EXAMPLES}.word_count", "task_parameters": {"document_id": "notes-1"}}
    queue = f"smoke-{uuid.uuid4()}"
    answer = server.call("POST", "/tasks/submit/batch", {"tasks": [item] * 3})
    server.check("batch: status", 202, answer.status)
    server.check("batch: accepted", (3, 3), (answer.body["accepted"], len(answer.body["tasks"])))
    for entry in answer.body["tasks"]:
        server.check("batch: status word", "PENDING", entry["status"])
        server.check("batch: the task ends", "SUCCESS", server.wait(entry["task_id"])[-1]["status"])
    wrong = {"tasks": [item | {"queue": queue}, item | {"queue": queue, "task_parameters": {"document_id": 1}}]}
    refused = server.call("POST", "/tasks/submit/batch", wrong)
    problem = server.check_problem("batch with a bad item", refused, 422, "invalid_parameters")
    server.check_that("batch: the bad item is named by its index", "1" in json.dumps(problem))
    server.check("batch: none of a refused one", 0, server.get("/tasks/", queue=queue).body["total_count"])


def listing(server, task_id):
    """GET /tasks/ filters, pages and counts."""
    query = {"page": 1, "page_size": 10, "task_type": "process_document", "status": "SUCCESS"}
    answer = server.get("/tasks/", **query)
    server.check("list: status", 200, answer.status)
    server.check_fields("list", {"tasks", "total_count", "page", "page_size", "next_cursor"}, answer.body)
    tasks = answer.body["tasks"]
    server.check("list: page and page_size", (1, 10), (answer.body["page"], answer.body["page_size"]))
    server.check_that("list: total_count counts at least what is shown", answer.body["total_count"] >= len(tasks) > 0)
    server.check_that("list: the task is in it", task_id in {task["task_id"] for task in tasks})
    for task in tasks:
        server.check_fields("list entry", LIST_FIELDS, task)
        server.check("list: task_type", f"{EXAMPLES}.process_document", task["task_type"])
        server.check("list: status", "SUCCESS", task["status"])
        server.check_time("list: submitted_at", task["submitted_at"])
        server.check_time("list: completed_at", task["completed_at"])
    submitted = [datetime.fromisoformat(task["submitted_at"]) for task in tasks]
    server.check_that("list: newest first", submitted == sorted(submitted, reverse=True))
    by_full_name = server.get("/tasks/", **query | {"task_type": f"{EXAMPLES}.process_document"}).body
    server.check("list: the full name finds the same", answer.body["total_count"], by_full_name["total_count"])
    first = server.get("/tasks/", **query | {"page_size": 1}).body
    second = server.get("/tasks/", **query | {"page_size": 1, "page": 2}).body
    after = server.get(
        "/tasks/", page_size=1, task_type="process_document", status="SUCCESS", cursor=first["next_cursor"]
    )
    ids = [page["tasks"][0]["task_id"] for page in (first, second, after.body)]
    server.check("list: the cursor leads to page 2", ids[1], ids[2])
    server.check_that("list: page 2 is another task", ids[0] != ids[1])
    for filters in ({"task_type": "no_such_task"}, {"queue": "no-such-queue"}, {"tag": str(uuid.uuid4())}):
        empty = server.get("/tasks/", **filters).body
        server.check(f"list {filters}: nothing", ([], 0), (empty["tasks"], empty["total_count"]))
    later = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    server.check("list submitted_after", [], server.get("/tasks/", submitted_after=later).body["tasks"])


def detail_and_history(server, task_id):
    """GET /tasks/{task_id} has everything, /events the whole history."""
    detail = server.get(f"/tasks/{task_id}")
    server.check("detail: status", 200, detail.status)
    server.check_fields("detail", DETAIL_FIELDS, detail.body)
    server.check("detail: parameters", USERS_EXAMPLE["task_parameters"], detail.body.get("parameters"))
    server.check("detail: attempts", 1, len(detail.body.get("attempts", [])))
    history = server.get(f"/tasks/{task_id}/events")
    server.check("events: status", 200, history.status)
    events = history.body.get("events", [])
    for event in events:
        server.check_fields("event", EVENT_FIELDS, event)
        server.check_time("event.at", event.get("at"))
    kinds = [event.get("kind") for event in events]
    print(f"   {' → '.join(map(str, kinds))}")
    server.check("events: seq has no gaps", list(range(1, len(events) + 1)), [event.get("seq") for event in events])
    steps = [kind for kind in kinds if kind != "progress"]
    server.check("events", ["submitted", "dispatched", "started", "succeeded"], steps)


def task_types(server):
    """The catalogue has the example tasks with the schema of their parameters."""
    answer = server.get("/task-types")
    server.check("task-types: status", 200, answer.status)
    names = {entry["name"] for entry in answer.body["task_types"]}
    server.check_that("task-types: process_document is in it", USERS_EXAMPLE["task_type"] in names)
    entry = server.get(f"/task-types/{USERS_EXAMPLE['task_type']}")
    server.check("task-type: status", 200, entry.status)
    server.check_fields("task-type", {"name", "doc", "parameters_schema", "queue"}, entry.body)
    schema = entry.body.get("parameters_schema", {})
    server.check("task-type: required parameters", ["document_id"], schema.get("required"))
    missing = server.get("/task-types/no.such.type")
    server.check_problem("unknown task type", missing, 404, "task_type_not_found")


def refusals(server):
    """What is wrong is refused before anything is queued, as problem+json with a stable code."""
    queue = f"smoke-{uuid.uuid4()}"
    kind = USERS_EXAMPLE["task_type"]
    unknown = server.call("POST", "/tasks/submit", {"task_type": f"{EXAMPLES}.process_documint"})
    problem = server.check_problem("unknown type", unknown, 422, "unknown_task_type")
    server.check_that("unknown type: near matches are named", kind in json.dumps(problem))
    bodies = [
        ("missing parameter", {"task_type": kind, "task_parameters": {}}, "invalid_parameters"),
        ("wrong parameter", {"task_type": kind, "task_parameters": {"document_id": 7}}, "invalid_parameters"),
        (
            "extra parameter",
            {"task_type": kind, "task_parameters": {"document_id": "a", "b": 1}},
            "invalid_parameters",
        ),
        ("unknown field", USERS_EXAMPLE | {"colour": "red"}, "invalid_request"),
        ("no task_type", {"task_parameters": {}}, "invalid_request"),
        ("bad priority", USERS_EXAMPLE | {"priority": 10}, "invalid_request"),
        ("not an object", [1], "invalid_request"),
    ]
    for what, body, code in bodies:
        sent = body | {"queue": queue} if isinstance(body, dict) else body
        server.check_problem(what, server.call("POST", "/tasks/submit", sent), 422, code)
    malformed = server.call("POST", "/tasks/submit", b"{not json")
    server.check_problem("malformed JSON", malformed, 400, "malformed_json")
    for query in (
        {"page": 0},
        {"page": "x"},
        {"page_size": 0},
        {"status": "DONE"},
        {"submitted_after": "noon"},
    ):
        server.check_problem(f"list {query}", server.get("/tasks/", **query), 422, "invalid_request")
    for path in ("", "/status", "/events"):
        answer = server.get(f"/tasks/{uuid.uuid4()}{path}")
        server.check_problem(f"unknown id{path}", answer, 404, "task_not_found")
        answer = server.get(f"/tasks/not-a-uuid{path}")
        server.check_problem(f"not a UUID{path}", answer, 404, "task_not_found")
    server.check_problem("no such path", server.get("/nowhere"), 404, "not_found")
    server.check_problem("wrong method", server.call("DELETE", "/tasks/submit"), 405, "method_not_allowed")
    server.check("refused submits leave no task", 0, server.get("/tasks/", queue=queue).body["total_count"])


def failures(server):
    """A task that fails keeps the type, message and traceback of its error."""
    cases = [
        ("fail_on_purpose", {"message": "ordered: 失败"}, "ValueError", "ordered: 失败"),
        ("process_document", {"document_id": "doc-404"}, "DocumentNotFound", "doc-404"),
        ("process_document", {"document_id": "../../etc/passwd"}, "InvalidDocumentId", "passwd"),
    ]
    for name, parameters, kind, message in cases:
        last = server.wait(server.submit(name, parameters))[-1]
        server.check(f"{name}: status", "FAILURE", last["status"])
        server.check(f"{name}: result of a failure", None, last["result"])
        error = last["error"] or {}
        server.check_fields(f"{name}: error", {"type", "message", "traceback", "retryable"}, error)
        server.check(f"{name}: error type", kind, str(error.get("type")).rpartition(".")[2])
        server.check_that(f"{name}: message has {message!r}", message in str(error.get("message")))
        server.check_that(f"{name}: traceback names the line", "Traceback" in str(error.get("traceback")))
        print(f"   {error.get('type')}: {error.get('message')}")


def retries(server):
    """A task that fails once is tried again and succeeds; both attempts are in its history."""
    task_id = server.submit("flaky", {"failures": 1})
    last = server.wait(task_id)[-1]
    server.check("flaky: status", "SUCCESS", last["status"])
    server.check("flaky: attempt", 2, last["attempt"])
    server.check("flaky: result", {"status": "success", "tries": 2}, last["result"])
    kinds = [event["kind"] for event in server.get(f"/tasks/{task_id}/events").body["events"]]
    server.check("flaky: retried once", 1, kinds.count("retried"))


def submit_options(server):
    """Tags, metadata, countdown and the Idempotency-Key do what they say."""
    tag = f"smoke-{uuid.uuid4()}"
    body = {
        "task_type": f"{EXAMPLES}.checksum_file",
        "task_parameters": {"document_id": "doc-123"},
        "tags": [tag],
        "metadata": {"asked_by": "test_task_api"},
        "countdown": 1,
    }
    key = str(uuid.uuid4())
    first = server.call("POST", "/tasks/submit", body, Idempotency_Key=key)
    again = server.call("POST", "/tasks/submit", body, Idempotency_Key=key)
    server.check("same key, same body: status", 202, again.status)
    server.check("same key, same body: the first answer again", first.body, again.body)
    other = server.call("POST", "/tasks/submit", body | {"countdown": 2}, Idempotency_Key=key)
    server.check_problem("same key, other body", other, 422, "idempotency_key_reused")
    task_id = first.body["task_id"]
    server.check_time("run_at of a countdown", server.get(f"/tasks/{task_id}/status").body["run_at"])
    server.check("countdown: status", "SUCCESS", server.wait(task_id)[-1]["status"])
    found = server.get("/tasks/", tag=tag).body
    server.check("list by tag", ([task_id], 1), ([task["task_id"] for task in found["tasks"]], found["total_count"]))
    detail = server.get(f"/tasks/{quote(task_id)}").body
    server.check("metadata", {"asked_by": "test_task_api"}, detail.get("metadata"))
    started, submitted = (datetime.fromisoformat(str(detail[name])) for name in ("started_at", "submitted_at"))
    server.check_that("countdown: not begun before its time", started - submitted >= timedelta(seconds=1))


def check_key(server, api_key):
    """Without a key that may do what this script does, every call would differ for one and the same reason."""
    tried = [server.get("/task-types"), server.call("POST", "/tasks/submit", {})]
    refused = next((answer for answer in tried if answer.status in (401, 403)), None)
    if refused is None:
        return
    what = "does not take this API key" if api_key else "needs an API key"
    why = refused.body.get("detail", "") if isinstance(refused.body, dict) else ""
    raise KeyNeededError(
        f"The server {what}: make one with `ledgerq keys create --scope tasks:read --scope tasks:submit` "
        f"and pass it with --api-key or in LEDGERQ_API_KEY. ({why})"
    )


def run(server):
    """All parts in order; a part that meets something entirely unexpected counts as one difference."""
    example = {}

    def remember():
        example["id"] = users_example(server)

    parts = [
        (health, lambda: health(server)),
        (users_example, remember),
        (reading_again, lambda: reading_again(server, example["id"])),
        (listing, lambda: listing(server, example["id"])),
        (detail_and_history, lambda: detail_and_history(server, example["id"])),
        (moving_progress, lambda: moving_progress(server)),
        (task_types, lambda: task_types(server)),
        (refusals, lambda: refusals(server)),
        (failures, lambda: failures(server)),
        (retries, lambda: retries(server)),
        (batch, lambda: batch(server)),
        (submit_options, lambda: submit_options(server)),
    ]
    for function, part in parts:
        print(f"\n{function.__doc__}")
        before = server.differences
        try:
            part()
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            server.check(f"an answer of the promised form ({type(error).__name__}: {error})", True, False)
        print("   ok" if server.differences == before else "   NOT AS DOCUMENTED")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-url", default="http://127.0.0.1:8000")
    parser.add_argument("--api-key", default=os.environ.get("LEDGERQ_API_KEY"))
    parser.add_argument("--timeout", type=float, default=60, help="seconds that a task may take (default 60)")
    options = parser.parse_args()
    server = Server(options.base_url, options.api_key, options.timeout)
    print(f"Trying {options.base_url}")
    try:
        check_key(server, options.api_key)
        run(server)
    except KeyNeededError as error:
        print(error, file=sys.stderr)
        return 2
    except UnreachableError as error:
        print(f"No answer from {options.base_url} ({error}): is the server running?", file=sys.stderr)
        return 2
    print(f"\n{server.checks} checks, {server.differences} differences")
    return 1 if server.differences else 0


if __name__ == "__main__":
    sys.exit(main())
