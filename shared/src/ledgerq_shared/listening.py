"""Where a service listens: one socket, for IPv4, for IPv6, or for both."""

from __future__ import annotations

import socket

from ledgerq_shared.languages import reason
from ledgerq_shared.settings import SettingsError

#: All addresses of this machine, of both kinds.
BOTH = "::"


def listen(host: str, port: int, *, prefix: str) -> socket.socket:
    """A bound socket, so that a port in use is noticed before anything else happens.

    Args:
        host: an address or a name; ``::`` for all addresses, IPv4 and IPv6.
        prefix: of the settings that name this address, such as ``API``, for the error.

    Raises:
        SettingsError: it is not possible to listen there.
    """
    host = host.strip("[]")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror as error:
        raise SettingsError(
            "LEDGERQ_{prefix}_HOST={host} is not an address of this machine: {why}",
            prefix=prefix,
            host=host,
            why=reason(error),
        ) from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != BOTH))
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise cannot_listen(host, port, error, prefix=prefix) from None
    listener.set_inheritable(True)
    return listener


def cannot_listen(host: str, port: int, error: OSError, *, prefix: str) -> SettingsError:
    """Why it is not possible to listen there; ``prefix`` as for :func:`listen`."""
    return SettingsError(
        "cannot listen on {host} port {port}: {why} (LEDGERQ_{prefix}_HOST, LEDGERQ_{prefix}_PORT)",
        host=host,
        port=port,
        why=reason(error),
        prefix=prefix,
    )


def url_of(host: str, port: int) -> str:
    """How a service that listens there is called, for people: an address of IPv6 is put into brackets."""
    host = host.strip("[]")
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
