"""Ports of the embedded servers: free ones, kept from one start to the next."""

import random
import socket
from pathlib import Path

from ledgerq_shared.embedded.errors import EmbeddedError

LOOPBACK = "127.0.0.1"
# Below the ports that Linux (32768) and macOS (49152) give to outgoing connections: one of those could take a
# kept port while its server is down.
_RANGE = (20000, 32768)
_ATTEMPTS = 200


def free_port() -> int:
    """Return a port that was free a moment ago; the caller that binds it must be ready to try another."""
    for _ in range(_ATTEMPTS):
        port = random.randrange(*_RANGE)
        if is_free(port):
            return port
    raise EmbeddedError(
        "no free port between {first} and {last} on {loopback}", first=_RANGE[0], last=_RANGE[1], loopback=LOOPBACK
    )


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """True when a server could listen on ``host:port`` now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # Servers set it too: without it, connections in TIME_WAIT of the last run would look like a server.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def kept_port(path: Path) -> int:
    """Return the port of the last start if it is still free, else a new one; remember it in ``path``."""
    try:
        port = int(path.read_text())
    except (OSError, ValueError):
        port = 0
    if not (0 < port < 65536 and is_free(port)):
        port = free_port()
    path.write_text(f"{port}\n")
    return port


def choose_port(kept: Path, server: str, *, fixed: int | None, again: bool, same: bool) -> int:
    """Return the port on which a server is to listen.

    Args:
        kept: the file with the port of its last start.
        server: its name, for people.
        fixed: the port that somebody chose for it; None: any will do.
        again: the port that was returned before turned out to be taken.
        same: others know the port of its last start.

    Raises:
        EmbeddedError: the only port that would do is taken.
    """
    if fixed is not None:
        if not is_free(fixed):
            raise EmbeddedError("port {port} for {server} is in use", port=fixed, server=server)
        return fixed
    before = kept.read_text() if same else ""
    if again:
        kept.write_text(f"{free_port()}\n")
    port = kept_port(kept)
    if before and before.strip() != str(port):
        kept.write_text(before)
        raise EmbeddedError("somebody else has taken port {port} of {server}", port=before.strip(), server=server)
    return port
