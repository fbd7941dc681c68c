"""URLs of several servers."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit


def one_url(*servers: str, query: str = "") -> str:
    """All of them in one URL; a server is an URL or `host:port`."""
    first = urlsplit(next(server for server in servers if "://" in server))
    user = first.netloc.rpartition("@")[0]
    places = [urlsplit(server).netloc.rpartition("@")[2] if "://" in server else server for server in servers]
    return urlunsplit(first._replace(netloc=f"{user}@{','.join(places)}", query=query))


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port
    return port
