"""The only way to connect to PostgreSQL. A URL may name several servers: then the connection is made to the one that
accepts writes, or, for a replica's URL, to one that follows it.

The primary may change (a failover, a switch-over), so each connection is made to the server that is the primary now.
libpq asks the servers in turn; the last known primary is asked first.
"""

from __future__ import annotations

from itertools import repeat
from typing import Any

import psycopg2
from psycopg2.extensions import connection as plain_connection
from psycopg2.extensions import libpq_version, parse_dsn

from ledgerq_shared.languages import say

#: If the URL names several servers, one that does not answer is given up after this many seconds. libpq accepts no
#: smaller value.
_SILENT_AFTER = 2
#: ``primary`` also accepts a server that an operator has set read-only by default, which is right because every
#: transaction of ours sets what it needs. An old libpq does not know the word.
_PRIMARY = "primary" if libpq_version() >= 140000 else "read-write"
_STANDBY = "standby" if libpq_version() >= 140000 else "any"
_FOR_WRITING = ("any", "read-write", "primary")
_FOR_READING = ("read-only", "standby", "prefer-standby")

#: By URL and kind of server: the server that was found last, as its place in the URL's list.
_last: dict[tuple[str, str], int] = {}


def connect(
    url: str,
    *,
    application_name: str,
    connect_timeout: int,
    factory: type[plain_connection] | None = None,
    is_replica: bool = False,
    **options: Any,
) -> plain_connection:
    """A new connection to the server of ``url``, or, if it names several, to the one that is the primary.

    Args:
        url: libpq's URL, as :func:`check` takes it.
        application_name: shown in ``pg_stat_activity``.
        connect_timeout: seconds; of several servers each has two at most.
        factory: the connection's class; None: psycopg2's own.
        is_replica: connect to a standby instead of the primary, if there are several servers.
        options: libpq's parameters, before those of the URL.

    Raises:
        psycopg2.OperationalError: no server answers, or none of several is of the wanted kind.
    """
    places, meant = _places(url), _STANDBY if is_replica else _PRIMARY
    if len(places) > 1:
        first = _last.get((url, meant), 0)
        options |= {name: ",".join(values) for name, values in _in_order(places, first).items()}
        options["target_session_attrs"] = meant
        connect_timeout = min(connect_timeout, _SILENT_AFTER)
    made = psycopg2.connect(
        url, application_name=application_name, connect_timeout=connect_timeout, connection_factory=factory, **options
    )
    if len(places) > 1:
        _remember((url, meant), places, made)
    return made


def describe(error: psycopg2.Error) -> str:
    """The driver's error in one line; for several servers, what each of them did. It may quote parts of a wrong URL."""
    lines = [line.strip() for line in str(error).strip().splitlines()]
    servers = [line for line in lines if line.startswith("connection to server")]
    return "; ".join(servers) or (lines[0] if lines else type(error).__name__)


def check(url: str, *, is_replica: bool = False) -> None:
    """Check that ``url`` can be that of a ledger, or of its replica, without connecting.

    Raises:
        ValueError: it cannot be; the text repeats nothing of the URL, which may hold a password.
    """
    try:
        parts = parse_dsn(url)
    except psycopg2.Error as error:
        if "query parameter" in str(error):
            raise ValueError(say("has a parameter after '?' that PostgreSQL does not know")) from None
        raise ValueError(say("cannot be read; write special characters in a name or password as %XX")) from None
    hosts, ports = _list(parts, "host"), _list(parts, "port")
    if any(port and not _is_port(port) for port in ports):
        raise ValueError(say("has a port that is not a number between 1 and 65535"))
    if len(hosts) > 1 and not all(hosts):
        raise ValueError(say("has an empty place in its list of hosts: write 'host:port,other:port'"))
    servers = max(len(hosts), len(_list(parts, "hostaddr")))
    if len(ports) not in (0, 1, servers):
        raise ValueError(
            say(
                "names {hosts} hosts and {ports} ports: one port for all, or one for each",
                hosts=servers or 1,
                ports=len(ports),
            )
        )
    if len(_list(parts, "hostaddr")) not in (0, servers) or len(hosts) not in (0, servers):
        raise ValueError(say("has 'host' and 'hostaddr' of different lengths: one address for each host"))
    _check_target(parts.get("target_session_attrs"), is_replica=is_replica)


def _check_target(target: str | None, *, is_replica: bool) -> None:
    if is_replica:
        if target not in (None, "any", *_FOR_READING):
            raise ValueError(say("has a target_session_attrs that means no standby: leave it out"))
        return
    if target in _FOR_READING:
        raise ValueError(
            say("asks for a server that only reads (target_session_attrs): the ledger is written to, so leave that out")
        )
    if target is not None and target not in _FOR_WRITING:
        raise ValueError(
            say("has a target_session_attrs that is none of {known}; it may be left out", known=", ".join(_FOR_WRITING))
        )


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text) < 65536


def _list(parts: dict[str, str], name: str) -> list[str]:
    return parts[name].split(",") if parts.get(name) else []


def _places(url: str) -> list[dict[str, str]]:
    """The servers that ``url`` names, each with what libpq needs to find it."""
    parts = parse_dsn(url)
    named = {name: _list(parts, name) for name in ("host", "hostaddr", "port")}
    count = max(map(len, named.values()))
    columns = [
        zip(repeat(name), values * count if len(values) == 1 else values, strict=False)
        for name, values in named.items()
        if values
    ]
    return [dict(place) for place in zip(*columns, strict=False)]


def _in_order(places: list[dict[str, str]], first: int) -> dict[str, list[str]]:
    ordered = [places[first], *(place for number, place in enumerate(places) if number != first)]
    return {name: [place[name] for place in ordered] for name in places[0]}


def _remember(sought: tuple[str, str], places: list[dict[str, str]], made: plain_connection) -> None:
    name, port = made.info.host, str(made.info.port)
    for number, place in enumerate(places):
        if name in (place.get("host"), place.get("hostaddr")) and (place.get("port") or port) == port:
            _last[sought] = number
            return
