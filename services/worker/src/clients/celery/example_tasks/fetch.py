"""Fetching one URL, with limits, and without becoming a door into the worker's network.

Whoever may submit tasks chooses the URL, so a plain fetch would let them read what only the worker can reach
(server-side request forgery). Every address is therefore checked when the connection is made, for each
redirect again: a name that resolves to something else a moment later gains nothing. Proxies from the
environment are not used, for then the proxy would resolve the name.
"""

import hashlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from clients.celery.example_tasks.budget import storable
from clients.celery.example_tasks.errors import FetchFailed, ForbiddenUrl, InvalidOptions, ResponseTooLarge
from clients.celery.example_tasks.progress import Reporter

MAX_BYTES = 10_000_000
MAX_SECONDS = 60.0
_MAX_REDIRECTS = 5
_CHUNK = 64 * 1024
_TEXT_CHARACTERS = 50_000  # of the body in the result
_REDIRECTS = {301, 302, 303, 307, 308}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
#: Called global by some Pythons or by all, and yet inside: protocol assignments, the metadata service of a cloud that
#: has it on a public address, translation for local use, site-local addresses.
_INSIDE = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "168.63.129.16/32", "64:ff9b:1::/48", "fec0::/10")))


@dataclass(frozen=True)
class Limits:
    """What one fetch may cost: bytes of body, seconds in all; and whether it may go inside."""

    max_bytes: int
    seconds: float
    allow_private: bool

    def __post_init__(self) -> None:
        if not 1 <= self.max_bytes <= MAX_BYTES:
            raise InvalidOptions(f"max_bytes must be from 1 to {MAX_BYTES:,}, not {self.max_bytes!r}.")
        if not 0 < self.seconds <= MAX_SECONDS:
            raise InvalidOptions(f"timeout must be above 0 and at most {MAX_SECONDS:g} s, not {self.seconds!r}.")


def fetched(url: str, limits: Limits, reporter: Reporter) -> dict[str, Any]:
    """Status, headers' essence, checksum and the beginning of the text of what `url` answers."""
    deadline = time.monotonic() + limits.seconds
    current = url
    for _ in range(_MAX_REDIRECTS + 1):
        target = _checked(current)
        connection = _connection(target, limits, deadline)
        try:
            with _cut_off(connection, deadline):
                response = _asked(connection, target)
                location = response.getheader("Location")
                if response.status in _REDIRECTS and location:
                    current = urljoin(current, location)
                    continue
                body = _body(response, limits, deadline, reporter)
            return {"url": url, "final_url": current} | _described(response, body)
        except (OSError, http.client.HTTPException) as error:
            raise FetchFailed(f"{current} could not be fetched: {str(error) or type(error).__name__}.") from error
        finally:
            connection.close()
    raise FetchFailed(f"{url} redirects more than {_MAX_REDIRECTS} times.")


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError as error:
        raise ForbiddenUrl(f"{url!r} is not a URL: {error}.") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_valid:
        raise ForbiddenUrl(f"{url!r} cannot be fetched: use http://host/… or https://host/….")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ForbiddenUrl(f"{url!r} has characters that must be percent-encoded.")
    if parts.username is not None:
        raise ForbiddenUrl("A URL with a user name or password cannot be fetched: task parameters are kept.")
    return parts


def _connection(target: SplitResult, limits: Limits, deadline: float) -> http.client.HTTPConnection:
    secure = target.scheme == "https"
    port = target.port or (443 if secure else 80)
    host = str(target.hostname)
    plain = _connected(host, port, limits.allow_private, deadline)
    if not secure:
        connection = http.client.HTTPConnection(host, target.port)
        connection.sock = plain
        return connection
    connection = http.client.HTTPSConnection(host, target.port)
    try:
        connection.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=host)
    except OSError as error:
        plain.close()
        raise FetchFailed(f"No secure connection to {host}: {error}.") from error
    return connection


def _connected(host: str, port: int, allow_private: bool, deadline: float) -> socket.socket:
    """A socket to the first address of `host` that answers; every address is checked before it is used."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise FetchFailed(f"The host {host!r} was not found: {error}.") from error
    failure: OSError | None = None
    for family, kind, protocol, _, address in found:
        if not allow_private and not is_public(str(address[0])):
            raise ForbiddenUrl(
                f"{host} is {address[0]}, an address inside the worker's network: set "
                "LEDGERQ_FETCH_ALLOW_PRIVATE=true for the worker to allow it."
            )
        candidate = socket.socket(family, kind, protocol)
        try:
            candidate.settimeout(_left(deadline))
            candidate.connect(address)
        except OSError as error:
            candidate.close()
            failure = error
        else:
            return candidate
    raise FetchFailed(f"No connection to {host}:{port}: {failure}.") from failure


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet; wrapped in IPv6 it counts as what is wrapped."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        ip = inner or ip
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _INSIDE)


@contextmanager
def _cut_off(connection: http.client.HTTPConnection, deadline: float) -> Iterator[None]:
    """End the connection at the deadline: a server that drips bytes never meets a socket's timeout."""
    timer = threading.Timer(_left(deadline), _shut, (connection.sock,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    _left(deadline)


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):  # it ended by itself meanwhile
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # SSLSocket's own would tear down the state in use


def _asked(connection: http.client.HTTPConnection, target: SplitResult) -> http.client.HTTPResponse:
    path = (target.path or "/") + (f"?{target.query}" if target.query else "")
    headers = {"User-Agent": "ledgerq-example", "Accept": "*/*", "Connection": "close"}
    connection.request("GET", path, headers=headers)
    return connection.getresponse()


def _body(response: http.client.HTTPResponse, limits: Limits, deadline: float, reporter: Reporter) -> bytes:
    expected = response.length
    body = bytearray()
    while chunk := response.read1(_CHUNK):
        body += chunk
        if len(body) > limits.max_bytes:
            raise ResponseTooLarge(f"The answer is longer than {limits.max_bytes:,} bytes: raise max_bytes.")
        _left(deadline)
        reporter.raise_if_cancelled()
        share = len(body) / max(expected or limits.max_bytes, len(body))
        reporter.update_progress(round(100 * share, 1), f"{len(body):,} bytes")
    return bytes(body)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time allowed for it is over")
    return left


def _described(response: http.client.HTTPResponse, body: bytes) -> dict[str, Any]:
    content_type = response.headers.get_content_type()
    described: dict[str, Any] = {
        "status_code": response.status,
        "content_type": content_type,
        "bytes": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    if content_type.startswith("text/") or content_type.endswith(("json", "xml", "javascript")):
        try:
            text = body.decode(response.headers.get_content_charset("utf-8"), "replace")
        except LookupError:
            text = body.decode("utf-8", "replace")
        described["text"] = storable(text[:_TEXT_CHARACTERS])
    return described
