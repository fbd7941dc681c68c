"""`/docs` in a real browser that reaches nothing but the API: the calls are on it, also below a prefix."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.browser.chromium import rendered
from tests.support import http, wait


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
        assert dom.index("Submit a task") < dom.index("List queues") < dom.index("How is it?"), "in the order of use"
        prefix = "/q" if url.endswith("/q") else "/"
        assert f'<option value="{prefix}"' in dom
