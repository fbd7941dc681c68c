"""Flower: every task, no drain; nobody gets around the ledger."""

from __future__ import annotations

import base64
import html
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest

from tests.support import databases, http, wait

TASKS = "clients.celery.example_tasks"
LOGIN = {"Authorization": "Basic " + base64.b64encode(b"ops:secret-word").decode()}
ENVIRONMENT = {"LEDGERQ_FLOWER_BASIC_AUTH": "ops:secret-word"}


def get(flower, path):
    return http.request("GET", flower.url + path, headers=LOGIN)


def post(flower, path, body=b"", **query):
    target = f"{flower.url}{path}?{urlencode(query)}" if query else flower.url + path
    return http.request("POST", target, body, headers=LOGIN)


def submit(api, name, **parameters):
    return submit_as(api, {"task_type": f"{TASKS}.{name}", "task_parameters": parameters})


def submit_as(api, body):
    answer = http.request("POST", f"{api.url}/tasks/submit", body)
    assert answer.status == 202, answer.body
    return answer.json()["task_id"]


def shown(flower, task_id, state):
    task = get(flower, "/api/tasks").json().get(task_id)
    return task if task and task["state"] == state else None


def state_in_ledger(stack, task_id):
    sql = "SELECT state FROM task WHERE id::text = %s OR celery_id = %s"
    rows = databases.rows(stack.environment["DATABASE_URL"], sql, (task_id, task_id))
    return rows[0][0] if rows else None


def watch(stack, **environment):
    """API, worker, maintenance and Flower; the worker knows that somebody listens."""
    stack.register()
    api = stack.api()
    flower = stack.flower(**ENVIRONMENT, **environment)
    worker = stack.worker()
    stack.maintenance()
    worker.says("worker.events.on", 60)
    return api, flower


@pytest.fixture
def watched(stack):
    return watch(stack)


def test_workers_tell_all_that_flower_shows_of_tasks_even_if_it_cannot_ask_the_ledger(stack):
    api, flower = watch(stack, DATABASE_URL="postgresql://nobody@127.0.0.1:1/nowhere")
    flower.says("flower.ledger.away")
    done = submit(api, "word_count", document_id="notes-1")
    failed = submit(api, "fail_on_purpose", message="seen in Flower")
    task = wait.until(lambda: shown(flower, done, "SUCCESS"), 30, what=flower.log)
    assert task["name"] == f"{TASKS}.word_count"
    assert task["kwargs"] == '{"document_id":"notes-1"}' or "notes-1" in task["kwargs"]
    assert "words" in task["result"]
    assert task["runtime"] > 0
    assert task["retries"] == 0
    assert task["worker"].startswith("ledgerq@")
    assert "seen in Flower" in wait.until(lambda: shown(flower, failed, "FAILURE"), 30)["exception"]
    assert "ledgerq.drain" not in get(flower, "/api/tasks").body.decode()

    def whole() -> dict[str, Any] | None:
        """What is told of the worker, once it has answered every question of Flower's."""
        found = get(flower, "/api/workers?refresh=1").json()
        answered = [told.keys() >= {"active_queues", "stats", "registered"} for told in found.values()]
        return found if answered and all(answered) else None

    [(name, told)] = wait.until(whole, 30, what=flower.log).items()
    assert name == task["worker"]
    assert [queue["name"] for queue in told["active_queues"]] == ["default"]
    assert told["stats"]["pool"]["max-concurrency"] == 2
    assert f"{TASKS}.word_count" in str(told["registered"])
    assert "ledgerq.drain" not in str(told["registered"])
    for page, text in ((f"/worker/{quote(name)}", "default"), (f"/task/{done}", "word_count"), ("/workers", name)):
        answer = get(flower, page)
        assert answer.status == 200, page
        assert text in answer.body.decode(), page


ON_PURPOSE = """
import os, signal
from celery import shared_task

@shared_task
def kill_my_process(why: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)

@shared_task(time_limit=1)
def go_on(why: str) -> None:
    while True:
        pass
"""


def test_what_no_worker_tells_of_is_shown_from_the_ledger(stack):
    (stack.folder / "on_purpose.py").write_text(ON_PURPOSE)
    stack.environment["LEDGERQ_TASK_MODULES"] = "on_purpose"
    stack.register()
    api = stack.api()
    before = submit(api, "word_count", document_id="notes-1")
    flower = stack.flower(**ENVIRONMENT)
    stack.maintenance()
    old = wait.until(lambda: shown(flower, before, "PENDING"), 30, what=flower.log)
    assert (old["name"], json.loads(old["kwargs"])) == (f"{TASKS}.word_count", {"document_id": "notes-1"})
    assert (old["args"], old["retries"], old.get("worker"), old.get("started")) == ("[]", 0, None, None)

    cancelled = submit(api, "word_count", document_id="notes-2")
    assert wait.until(lambda: shown(flower, cancelled, "PENDING"), 30, what=flower.log)["name"] == f"{TASKS}.word_count"
    assert http.request("POST", f"{api.url}/tasks/{cancelled}/cancel", {}).status == 202
    revoked = wait.until(lambda: shown(flower, cancelled, "REVOKED"), 30, what=flower.log)
    assert revoked["revoked"] >= revoked["received"]
    assert '"notes-2"' in revoked["kwargs"]
    assert get(flower, f"/task/{cancelled}").status == 200
    assert http.request("POST", f"{api.url}/tasks/{cancelled}/retry", {}).status in {200, 202}
    wait.until(lambda: shown(flower, cancelled, "PENDING"), 30, what=flower.log)

    # No worker's events: these ends happen outside of a pool's process.
    stack.worker(LEDGERQ_EVENTS_PER_SECOND="0")
    killer = "on_purpose.kill_my_process"
    killed = submit_as(api, {"task_type": killer, "task_parameters": {"why": "to see it"}})
    endless = submit_as(api, {"task_type": "on_purpose.go_on", "task_parameters": {"why": "to see it"}})
    quarantined = wait.until(lambda: shown(flower, killed, "FAILURE"), 60, what=stack.logs)
    assert quarantined["exception"].startswith("TaskQuarantined(")
    assert (quarantined["name"], json.loads(quarantined["kwargs"])) == (killer, {"why": "to see it"})
    stopped = wait.until(lambda: shown(flower, endless, "FAILURE"), 60, what=stack.logs)
    assert stopped["exception"].startswith("TimeLimitExceeded(")
    done = wait.until(lambda: shown(flower, before, "SUCCESS"), 60, what=stack.logs)
    assert "words" in done["result"]
    assert done["runtime"] > 0
    assert done["worker"].startswith("ledgerq@")
    assert flower.stop() == 0
    assert "flower.ledger.away" not in flower.log()
    assert "Traceback" not in flower.log()
    assert "destroyed" not in flower.log()


REPORTING = """
import time
from pathlib import Path
from celery import shared_task
from clients.celery.base_tasks import DatabaseAwareTask

@shared_task(bind=True, base=DatabaseAwareTask, max_retries=1)
def report(self, title: str) -> str:
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    self.update_progress(25, "第一页")
    while not Path("go").exists():
        time.sleep(0.02)
    self.update_progress(100 * 6 / 7)
    while not Path("on").exists():
        time.sleep(0.02)
    self.update_progress(100, "最后一页")
    return title
"""


def cells(page: str) -> list[str]:
    """The text of the page's table, cell by cell."""
    return [
        " ".join(html.unescape(re.sub("<[^>]*>", "", cell)).split())
        for cell in re.findall(r"<t[hd][ >].*?</t[hd]>", page, re.DOTALL)
    ]


def test_pages_show_progress_attempts_text_as_text_and_the_ledgers_backlog(stack):
    (stack.folder / "reports.py").write_text(REPORTING)
    stack.environment["LEDGERQ_TASK_MODULES"] = "reports"
    stack.register()
    api = stack.api()
    flower = stack.flower(**ENVIRONMENT)
    # A client whose JSON has only ASCII; the second sign is outside of the first 65,536.
    body = {"task_type": "reports.report", "task_parameters": {"title": "你好 😀 \\u0041 \n"}}
    reporting = submit_as(api, body)
    for _ in range(55):
        submit(api, "word_count", document_id="notes-1")
    headings = ["Queue", "Waiting tasks", "Tasks with workers", "Tickets", "Slots", "Paused"]
    shown_here = cells(get(flower, "/broker").body.decode())
    tickets = shown_here.pop(9)
    assert shown_here == [*headings, "default", "56", "0", "0", "no"]
    assert int(tickets) < 2

    def listed() -> dict[str, Any]:
        query = {"draw": 1, "start": 0, "length": 100, "order[0][column]": 0, "columns[0][data]": "name"}
        found = post(flower, "/tasks/datatable", **query).json()["data"]
        return next((one for one in found if one["uuid"] == reporting), {})

    def page() -> str:
        return html.unescape(get(flower, f"/task/{reporting}").body.decode())

    assert "Progress" in cells(get(flower, "/tasks").body.decode())
    wait.until(
        lambda: listed().get("kwargs") == json.dumps(body["task_parameters"], ensure_ascii=False), 30, what=listed
    )
    stack.worker(LEDGERQ_WORKER_CONCURRENCY="1").says("worker.registered")
    stack.maintenance()
    wait.until(lambda: listed().get("progress") == "25 % 第一页", 60, what=listed)
    wait.until(lambda: listed()["attempts"] == 2, 30, what=listed)
    assert "25 % 第一页" in page()
    assert "你好 😀" in page()
    assert "1" in cells(get(flower, "/broker").body.decode())[8:11], "it is with a worker, which has a slot"
    (stack.folder / "go").touch()
    wait.until(lambda: listed()["progress"] == "85.7 %", 30, what=listed)
    (stack.folder / "on").touch()
    done = wait.until(lambda: listed()["state"] == "SUCCESS" and listed(), 30, what=listed)
    assert "你好 😀" in done["result"]
    wait.until(lambda: listed()["progress"] == "100 % 最后一页", 30, what=listed)
    told = get(flower, f"/api/task/info/{reporting}").json()
    assert (told["attempts"], json.loads(told["result"])) == (2, body["task_parameters"]["title"])


def test_pages_are_shown_without_the_ledger(stack):
    flower = stack.flower(**ENVIRONMENT, DATABASE_URL="postgresql://nobody@127.0.0.1:1/nowhere")
    assert cells(get(flower, "/broker").body.decode())[6:8] == ["default", "—"]


def test_nobody_looks_without_a_password_and_nobody_changes_anything(stack, watched):
    api, flower = watched
    assert http.request("GET", f"{flower.url}/healthcheck").status == 200
    for page in ("/", "/tasks", "/workers", "/broker", "/metrics", "/api/tasks", "/api/workers"):
        assert http.request("GET", flower.url + page).status == 401, page
    waiting = submit(api, "long_running")
    for path in (
        f"/api/task/revoke/{waiting}",
        f"/api/task/abort/{waiting}",
        f"/api/task/send-task/{TASKS}.word_count",
        f"/api/task/async-apply/{TASKS}.word_count",
        "/api/worker/shutdown/ledgerq@x",
        "/api/worker/pool/grow/ledgerq@x",
    ):
        assert post(flower, path, b"{}").status == 403, path
    assert state_in_ledger(stack, waiting) in {"PENDING", "STARTED"}
    assert get(flower, "/metrics").status == 200


def test_what_flower_may_order_is_in_the_ledger(stack, watched):
    api, _ = watched
    flower = stack.flower(LEDGERQ_FLOWER_READ_ONLY="false", **ENVIRONMENT)
    body = {"task_type": f"{TASKS}.word_count", "task_parameters": {"document_id": "notes-1"}, "countdown": 3600}
    waiting = http.request("POST", f"{api.url}/tasks/submit", body).json()["task_id"]
    assert post(flower, f"/api/task/revoke/{waiting}").status == 200
    wait.until(lambda: state_in_ledger(stack, waiting) == "REVOKED", 30, what=stack.logs)
    sent = post(flower, f"/api/task/send-task/{TASKS}.word_count", b'{"kwargs": {"document_id": "notes-1"}}')
    assert sent.status == 200, sent.body
    task_id = sent.json()["task-id"]
    wait.until(lambda: state_in_ledger(stack, task_id) == "SUCCESS", 30, what=stack.logs)
    aborted = post(flower, f"/api/task/abort/{task_id}")
    assert aborted.status == 403


@pytest.mark.parametrize(
    ("environment", "word"),
    [
        ({"LEDGERQ_FLOWER_HOST": "0.0.0.0"}, "LEDGERQ_FLOWER_BASIC_AUTH"),
        ({"LEDGERQ_FLOWER_BASIC_AUTH": "secret-word"}, "LEDGERQ_FLOWER_BASIC_AUTH"),
        ({"LEDGERQ_FLOWER_OAUTH_PROVIDER": "github"}, "LEDGERQ_FLOWER_OAUTH_KEY"),
        ({"LEDGERQ_FLOWER_PORT": "0"}, "LEDGERQ_FLOWER_PORT"),
        ({"REDIS_URL": ""}, "REDIS_URL"),
    ],
)
def test_what_is_set_wrong_is_one_line(stack, environment, word):
    running = stack.start("flower", "-m", "ledgerq_monitor.flower", **environment)
    assert running.wait() == 2
    [line] = running.log().splitlines()
    assert line.startswith("ledgerq-flower: ")
    assert word in line
    assert "secret-word" not in line


def test_a_login_that_is_not_ascii_is_let_in_or_refused_as_any_other(stack):
    flower = stack.flower(LEDGERQ_FLOWER_BASIC_AUTH="ops:secret-word,änne:pässwörd")

    def status(login):
        headers = {} if login is None else {"Authorization": login}
        return http.request("GET", f"{flower.url}/api/tasks", headers=headers).status

    def basic(text):
        return "Basic " + base64.b64encode(text).decode()

    assert status(basic("änne:pässwörd".encode())) == status(basic(b"ops:secret-word")) == 200
    wrong = ["änne:x".encode(), b"ops:\xff\xfe", "öps:secret-word".encode(), b"", b"ops", b"ops:secret-wordx"]
    assert {
        status(login) for login in (None, "", "Basic", "Basic \xe4", "Bearer x", "Basic !", *map(basic, wrong))
    } == {401}


def test_without_a_login_only_names_that_no_stranger_can_have_chosen_are_served(stack):
    flower = stack.flower(LEDGERQ_FLOWER_READ_ONLY="false", LEDGERQ_ALLOWED_HOSTS="flower.example.org")

    def status(method, path, **headers):
        return http.request(method, flower.url + path, b"" if method == "POST" else None, headers=headers).status

    for path in ("/", "/tasks", "/api/tasks", "/metrics", "/static/js/flower.js", "/nowhere", "/healthcheck"):
        answer = http.request("GET", flower.url + path, headers={"host": "rebind.evil.example"})
        assert (answer.status, b"LEDGERQ_ALLOWED_HOSTS" in answer.body) == (403, True), path
    for method in ("POST", "OPTIONS", "DELETE"):
        assert status(method, "/api/task/send-task/x.y", host="rebind.evil.example:5555") == 403
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        assert status("POST", "/api/task/revoke/some-id", origin=origin) == 403
    for host in ("localhost", "127.0.0.1:5555", "[::1]:5555", "flower.example.org"):
        assert status("GET", "/tasks", host=host) == 200
    assert (
        status("POST", "/api/task/revoke/some-id", origin=flower.url) == 401
    )  # Flower's own word: no orders without a login
    flower.says("host_not_allowed")


def test_oauth_guards_the_pages_where_it_is_set(stack):
    flower = stack.flower(
        LEDGERQ_FLOWER_OAUTH_PROVIDER="github", LEDGERQ_FLOWER_OAUTH_KEY="k", LEDGERQ_FLOWER_OAUTH_SECRET="s",
        LEDGERQ_FLOWER_OAUTH_REDIRECT_URI="http://127.0.0.1/login", LEDGERQ_FLOWER_OAUTH_EMAILS=".*@example.org",
    )  # fmt: skip
    answer = http.request("GET", f"{flower.url}/tasks")
    assert answer.status == 302
    assert answer.headers["location"].startswith("/login")
    assert flower.stop() == 0


@pytest.mark.parametrize(("email", "status"), [("ann@example.org", 200), ("eve@example.com", 403)])
def test_who_logs_in_with_the_provider_is_let_in_by_the_address(stack, email, status):
    answers = {"/v1/token": {"access_token": "t0ken"}, "/v1/userinfo": {"email": email, "email_verified": True}}

    class Provider(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.do_GET()

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answers[self.path]).encode())

        def log_message(self, *_: object) -> None:
            pass

    provider = HTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=provider.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{provider.server_port}"
    flower = stack.flower(
        LEDGERQ_FLOWER_OAUTH_PROVIDER="okta", LEDGERQ_FLOWER_OAUTH_KEY="k", LEDGERQ_FLOWER_OAUTH_SECRET="s",
        LEDGERQ_FLOWER_OAUTH_REDIRECT_URI="http://127.0.0.1/login", LEDGERQ_FLOWER_OAUTH_EMAILS=".*@example.org",
        FLOWER_OAUTH2_OKTA_BASE_URL=address,
    )  # fmt: skip
    sent = http.request("GET", f"{flower.url}/login")
    assert sent.status == 302
    assert sent.headers["location"].startswith(f"{address}/v1/authorize?")
    [state] = parse_qs(urlsplit(sent.headers["location"]).query)["state"]
    cookie = {"cookie": sent.headers["set-cookie"].partition(";")[0]}
    assert http.request("GET", f"{flower.url}/login?code=c&state=forged", headers=cookie).status >= 400
    back = http.request("GET", f"{flower.url}/login?code=c&state={state}", headers=cookie)
    provider.shutdown()
    provider.server_close()
    if status == 403:
        assert back.status == 403
    else:
        assert back.status == 302
        [user] = re.findall(r"user=[^;]+", back.headers["set-cookie"])
        assert http.request("GET", f"{flower.url}/tasks", headers={"cookie": user}).status == 200
