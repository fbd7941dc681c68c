"""Services listen by IPv4, by IPv6, or by both, and say so."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.support import http, wait
from tests.support.ports import free_port

if TYPE_CHECKING:
    from tests.support.stack import Stack


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


pytestmark = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")

#: Where it listens, and whether it answers to 127.0.0.1 and to ::1.
KINDS = [("127.0.0.1", True, False), ("::1", False, True), ("[::1]", False, True), ("::", True, True)]
SERVICES = [
    ("ledgerq_api", "LEDGERQ_API", {"LEDGERQ_ALLOW_ANONYMOUS": "true"}, "/livez"),
    ("ledgerq_monitor", "LEDGERQ_MONITOR", {"LEDGERQ_MONITOR_ALLOW_ANONYMOUS": "true"}, "/livez"),
    ("ledgerq_monitor.flower", "LEDGERQ_FLOWER", {"LEDGERQ_FLOWER_BASIC_AUTH": "a:b"}, "/healthcheck"),
]


@pytest.mark.parametrize(("module", "prefix", "extra", "path"), SERVICES, ids=[prefix for _, prefix, *_ in SERVICES])
def test_a_service_listens_by_ipv4_by_ipv6_or_by_both(
    stack: Stack, module: str, prefix: str, extra: dict[str, str], path: str
):
    for host, by_four, by_six in KINDS if module == "ledgerq_api" else KINDS[1:]:
        port = free_port()
        settings = {f"{prefix}_HOST": host, f"{prefix}_PORT": str(port), **extra}
        running = stack.start(module, "-m", module, **settings)
        four, six = f"http://127.0.0.1:{port}{path}", f"http://[::1]:{port}{path}"
        wait.until(lambda url=six if by_six else four: http.answers(url), 60, what=running.log)
        assert (http.answers(four), http.answers(six)) == (by_four, by_six), host
        running.stop()


def test_while_no_key_is_needed_ipv6_loopback_is_a_loopback_name(stack: Stack):
    port = free_port()
    running = stack.start("api", "-m", "ledgerq_api", LEDGERQ_API_HOST="::1", LEDGERQ_API_PORT=str(port))
    url = f"http://[::1]:{port}"
    wait.until(lambda: http.answers(f"{url}/readyz"), 60, what=running.log)
    assert f'"url": "{url}"' in running.log()
    assert http.request("GET", f"{url}/tasks/").status == 200
    assert http.request("GET", f"{url}/tasks/", headers={"host": "rebind.example"}).status == 403
