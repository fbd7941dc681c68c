"""Protection against other sites' pages in a browser: which host names this server answers to, and which pages may
change something.

Another site's page can make a browser call us. It cannot send a key. But while no key is needed, it may let its own
host name resolve to our address (DNS rebinding) and read our answers. So while no key is needed, a request must name a
host that no stranger can have chosen. With or without keys, only our own pages may change anything.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from ledgerq_shared.errors import HostNotAllowed, OriginNotAllowed
from ledgerq_shared.languages import say

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: Longer texts are not host names, and a cache must not keep them.
_LONGEST = 300


class Hosts:
    """Knows the host names under which this server may be called.

    Args:
        allowed: names in addition to loopback names and addresses; ``.example.org`` means every name below it, ``*``
            any name.
        needless: what callers do not need here (such as a key), for the message.
        remedy: how to allow all names, for the message.
    """

    def __init__(self, allowed: Iterable[str], *, needless: str = "API key", remedy: str = "make an API key") -> None:
        self._needless = needless
        self._remedy = remedy
        names = {name.strip().lower() for name in allowed if name.strip()}
        self._is_any = "*" in names
        self._names = frozenset(names)
        self._endings = tuple(name for name in names if name.startswith("."))
        self._is_ours = lru_cache(maxsize=64)(self._look_up)

    def check(self, method: str, headers: Iterable[tuple[bytes, bytes]], *, needs_key: bool) -> None:
        """Refuse a change that another site's page asks for; and, if no key is needed, refuse a request for a host name
        that a stranger may have chosen.

        Raises:
            HostNotAllowed, OriginNotAllowed
        """
        host = origin = None
        for name, value in headers:
            if name == b"host" and host is None:
                host = value
            elif name == b"origin" and origin is None:
                origin = value
        if host is not None and not needs_key and not self._is_known(host):
            raise HostNotAllowed(
                say(
                    "No {needless} is needed here, so the host must be a loopback name or an "
                    "address, not '{host}': add it to LEDGERQ_ALLOWED_HOSTS, or {remedy}.",
                    needless=say(self._needless),
                    host=host[:100].decode("latin-1"),
                    remedy=say(self._remedy),
                )
            )
        if origin is None or method in _SAFE_METHODS:
            return
        _, _, named = origin.partition(b"://")
        if named and (named.lower() == (host or b"").lower() or self._is_listed(named)):
            return
        raise OriginNotAllowed(
            say(
                "A page of '{origin}' may not change anything here; LEDGERQ_ALLOWED_HOSTS names the "
                "hosts whose pages may.",
                origin=origin[:100].decode("latin-1"),
            )
        )

    def _is_known(self, host: bytes) -> bool:
        return self._is_any or (len(host) <= _LONGEST and self._is_ours(host))

    def _is_listed(self, host: bytes) -> bool:
        name = _name_of(host)
        return self._is_any or name in self._names or name.endswith(self._endings or ("\0",))

    def _look_up(self, host: bytes) -> bool:
        name = _name_of(host)
        if name == "localhost" or name.endswith(".localhost") or self._is_listed(host):
            return True
        try:
            ipaddress.ip_address(name)  # a stranger cannot let an address resolve to something else
        except ValueError:
            return False
        return True


def _name_of(host: bytes) -> str:
    """The host without the port, and without the brackets of an IPv6 address."""
    text = host.decode("latin-1").strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0].rstrip(".")
