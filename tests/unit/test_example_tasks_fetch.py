"""fetch_url keeps its limits and does not open the worker's own network."""

import http.server
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from clients.celery.example_tasks import fetch
from clients.celery.example_tasks.errors import FetchFailed, ForbiddenUrl, InvalidOptions, ResponseTooLarge


class Silent:
    """A reporter that nobody listens to."""

    def update_progress(self, percent: float, *_: object) -> None:
        assert 0 <= percent <= 100

    def raise_if_cancelled(self) -> None:
        pass


class Pages(http.server.BaseHTTPRequestHandler):
    """Answers by path."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/moved":
            self._answer(302, b"", Location="/hello")
        elif self.path == "/loop":
            self._answer(302, b"", Location="/loop")
        elif self.path == "/to-file":
            self._answer(302, b"", Location="file:///etc/passwd")
        elif self.path == "/long":
            self._answer(200, b"x" * 100_000, **{"Content-Type": "application/octet-stream"})
        elif self.path == "/never":
            self.server.release.wait(20)  # type: ignore[attr-defined]
        else:
            self._answer(200, "你好".encode(), **{"Content-Type": "text/plain; charset=utf-8"})

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    server.release = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.release.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def get() -> Callable[..., dict[str, Any]]:
    def fetched(url: str, max_bytes: int = 10_000, seconds: float = 10, private: bool = True) -> dict[str, Any]:
        return fetch.fetched(url, fetch.Limits(max_bytes, seconds, private), Silent())

    return fetched


def test_a_text_is_fetched_with_its_checksum(site: str, get: Callable[..., dict[str, Any]]):
    result = get(f"{site}/hello")
    assert (result["status_code"], result["content_type"], result["text"]) == (200, "text/plain", "你好")
    assert (result["bytes"], len(result["sha256"])) == (6, 64)


def test_a_redirect_is_followed_and_named(site: str, get: Callable[..., dict[str, Any]]):
    result = get(f"{site}/moved")
    assert (result["url"], result["final_url"]) == (f"{site}/moved", f"{site}/hello")


def test_redirects_end_somewhere(site: str, get: Callable[..., dict[str, Any]]):
    with pytest.raises(FetchFailed, match="redirects more than 5 times"):
        get(f"{site}/loop")


def test_a_redirect_to_another_scheme_is_refused(site: str, get: Callable[..., dict[str, Any]]):
    with pytest.raises(ForbiddenUrl, match="file:///etc/passwd"):
        get(f"{site}/to-file")


def test_an_answer_above_the_limit_is_refused(site: str, get: Callable[..., dict[str, Any]]):
    with pytest.raises(ResponseTooLarge, match="max_bytes"):
        get(f"{site}/long", max_bytes=50_000)
    assert get(f"{site}/long", max_bytes=100_000)["bytes"] == 100_000


def test_a_server_that_never_answers_is_left(site: str, get: Callable[..., dict[str, Any]]):
    with pytest.raises(FetchFailed):
        get(f"{site}/never", seconds=0.2)


def test_the_own_network_is_closed_unless_it_is_opened(site: str, get: Callable[..., dict[str, Any]]):
    with pytest.raises(ForbiddenUrl, match="LEDGERQ_FETCH_ALLOW_PRIVATE"):
        get(f"{site}/hello", private=False)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hello",
        "file:///etc/passwd",
        "ftp://example.com/",
        "http://",
        "http://host:99999/",
        "http://user:secret@example.com/",
        "http://[::1",
        "http://example.com/a b",
        "http://example.com/\r\nX: y",
        "http://example.com/ü",
    ],
)
def test_what_is_not_a_web_address_is_refused(url: str, get: Callable[..., dict[str, Any]]):
    with pytest.raises(ForbiddenUrl):
        get(url)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:169.254.169.254", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b:1::808:808", False),
        ("64:ff9b::a83f:8110", False),
        ("168.63.129.16", False),
        ("::ffff:168.63.129.16", False),
        ("192.0.0.192", False),
        ("fec0::1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_private_addresses_are_known_in_every_disguise(address: str, public: bool):
    assert fetch.is_public(address) is public


@pytest.mark.parametrize(("max_bytes", "seconds"), [(0, 1), (10**9, 1), (1, 0), (1, 1000)])
def test_limits_beyond_the_allowed_are_refused(max_bytes: int, seconds: float):
    with pytest.raises(InvalidOptions):
        fetch.Limits(max_bytes, seconds, allow_private=False)
