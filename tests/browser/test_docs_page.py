"""`/docs` in a real browser that reaches nothing but the API: the calls are on it, also below a prefix."""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.browser.chromium import rendered
from tests.support import api as api_support
from tests.support import http, wait

#: Summaries of calls as one comes upon them.
IN_ORDER = (
    "Submit a task",
    "How a task stands",
    "List tasks",
    "Everything about a task",
    "Follow a task live",
    "Cancel a task",
    "Run a failed or revoked task again",
    "List task types",
    "List queues",
    "List live workers",
    "How is it?",
)


@pytest.fixture
def below_prefix(stack):
    """The API, and a proxy on the same machine that takes the prefix ``/q`` away."""
    api = stack.api()

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = http.request("GET", api.url + self.path.removeprefix("/q"))
            self.send_response(answer.status)
            for name in ("content-type", "content-security-policy", "location"):
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield api.url, f"http://127.0.0.1:{server.server_port}/q"
    server.shutdown()
    server.server_close()


@pytest.mark.timeout(900)
def test_the_calls_are_on_the_documentations_page_with_and_without_a_prefix(below_prefix, workspace):
    for number, url in enumerate(below_prefix):

        def page(url=url, number=number):
            dom = rendered(f"{url}/docs", workspace / f"profile{number}")
            return dom if "Submit many tasks" in dom else None

        dom = wait.until(page, 300, what=f"{url}/docs shows the calls")
        in_order = [dom.index(f">{summary}<") for summary in IN_ORDER]
        assert in_order == sorted(in_order)
        prefix = "/q" if url.endswith("/q") else "/"
        assert f'<option value="{prefix}"' in dom


@pytest.mark.timeout(900)
def test_a_call_about_a_task_is_filled_in_with_the_latest_task_and_the_page_is_dark_in_the_dark(
    stack, database, workspace
):
    api_support.register(database, *api_support.CATALOGUE)
    api = stack.api()
    task_id = http.request("POST", f"{api.url}/tasks/submit", {"task_type": api_support.ANYTHING}).json()["task_id"]
    for scheme, number in (("dark", 0), ("light", 1)):

        def page(scheme=scheme, number=number):
            option = f"--blink-settings=preferredColorScheme={number}"
            dom = rendered(f"{api.url}/docs#/tasks/show_status", workspace / scheme, option)
            return dom if f'value="{task_id}"' in dom else None

        dom = wait.until(page, 300, what="the task's id is filled in")
        [root] = re.findall(r"<html[^>]*>", dom)
        assert ("dark-mode" in root) == (scheme == "dark")
