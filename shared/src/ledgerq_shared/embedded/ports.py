"""Ports of the embedded servers: free ones, kept from one start to the next."""

import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """Return a port that was free a moment ago; whoever binds it must be ready to try another."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port


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
