"""The path below which a proxy serves the API: `https://example.org/queue/tasks/…` for `/queue`.

This works with proxies that strip the prefix and with proxies that pass it on: a path that begins with the prefix is
shortened. Addresses in answers (`Location`, links) begin with it.
"""

from __future__ import annotations

import ipaddress
import re

from starlette.types import ASGIApp, Receive, Scope, Send

from ledgerq_api.requests.headers import header

_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+\Z")
_KEY = "ledgerq_prefix"

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Proxied:
    """Understands the headers of the proxies in front. To be left out if there are none.

    Args:
        prefix: the setting ``LEDGERQ_ROOT_PATH``, such as ``/queue``; empty: there is none, unless a proxy names one.
        proxies: networks whose ``X-Forwarded-For`` and ``X-Forwarded-Prefix`` are believed.
    """

    def __init__(
        self, app: ASGIApp, *, prefix: str, proxies: list[ipaddress.IPv4Network | ipaddress.IPv6Network]
    ) -> None:
        self._app = app
        self._prefix = prefix.rstrip("/")
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            prefix = self._prefix
            if self._proxies and self._is_proxy(scope["client"][0] if scope.get("client") else ""):
                prefix = self._believe(scope) or prefix
            if prefix:
                scope[_KEY] = prefix
                path = scope["path"]
                if path == prefix or path.startswith(prefix + "/"):
                    scope["path"] = path[len(prefix) :] or "/"
        await self._app(scope, receive, send)

    def _believe(self, scope: Scope) -> str:
        """Take the client's address from the proxy, and its prefix if that is valid."""
        # A proxy adds a header line of its own or adds to the last one; in both cases its entry is to the right of what
        # came with the request.
        lines = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
        for text in reversed([one for one in ",".join(lines).split(",") if one.strip()]):
            address = _address_in(text.strip())
            if address is None:
                break
            # The first address from the right that is not one of our proxies; everything to the left of it may have
            # been written by anybody.
            scope["client"] = (str(address), 0)
            if not self._is_among(address):
                break
        prefix = (header(scope, b"x-forwarded-prefix") or b"").decode("latin-1").strip().rstrip("/")
        return prefix if _PREFIX.match(prefix) else ""

    def _is_proxy(self, text: str) -> bool:
        address = _address_in(text)
        return address is not None and self._is_among(address)

    def _is_among(self, address: _Address) -> bool:
        return any(address in network for network in self._proxies)


def _address_in(text: str) -> _Address | None:
    """The address of `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1` or `[2001:db8::1]:80`; also of an IPv4 address that
    came over an IPv6 socket.
    """
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def prefix_of(scope: Scope) -> str:
    """The prefix of addresses in answers; empty if no proxy is in front."""
    return str(scope.get(_KEY, ""))


def is_prefix(text: str) -> bool:
    """Whether a text can be a prefix: segments of plain characters, each after a slash."""
    return _PREFIX.match(text.rstrip("/")) is not None
