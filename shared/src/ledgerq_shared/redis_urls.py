"""What a Redis URL means, without a client: settings are checked, and commands begin, before anybody needs one.

Celery spells Sentinel as ``sentinel://host:26379;sentinel://other:26379/0`` and takes the rest from options beside the
URL. Our URL contains everything, so that one setting, one Secret or one file is enough::

    sentinel://:password@host:26379;sentinel://other:26379/0?master_name=mymaster&sentinel_password=secret
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from ledgerq_shared.languages import say

SENTINEL = "sentinel://"

_SENTINEL_PORT = 26379
#: How long one sentinel may take for an answer, in seconds; then the next one is asked.
_SENTINEL_SECONDS = 1.0
_PARAMETERS = ("master_name", "sentinel_username", "sentinel_password")

#: What may follow a `rediss://` URL.
_TLS = ("ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")
#: Parameters that redis-py accepts. An error may name them, because a person has written them on purpose.
_OF_CLIENTS = frozenset(
    "socket_timeout socket_connect_timeout socket_keepalive health_check_interval max_connections retry_on_timeout "  # noqa: SIM905
    "decode_responses encoding client_name lib_name lib_version username virtual_host fanout_prefix timeout".split()
)


@dataclass(frozen=True)
class Access:
    """A Redis URL in the form that Celery and kombu accept. Both parts may hold passwords.

    Attributes:
        options: for ``broker_transport_options`` and ``result_backend_transport_options``; empty without Sentinel.
    """

    url: str = field(repr=False)
    options: dict[str, Any] = field(repr=False, default_factory=dict)


def access(url: str) -> Access:
    """What to tell Celery and kombu.

    Raises:
        ValueError: a ``sentinel://`` URL is malformed. The text says what is wrong, and repeats nothing of the URL.
    """
    return _by_sentinel(url) if url.startswith(SENTINEL) else Access(url)


def plain(url: str) -> str:
    """The URL of one server in a form that Celery, kombu and redis-py all understand: each of them accepts other
    parameters.

    Raises:
        ValueError: it has a parameter that cannot be kept. The text repeats no value, which may be part of a password.
    """
    address, _, query = url.partition("?")
    given = parse_qsl(query, keep_blank_values=True)
    if len({name for name, _ in given}) < len(given):
        raise ValueError(say("has a parameter after '?' that stands there twice"))
    options = dict(given)
    is_socket = address.startswith("redis+socket://")
    if options.pop("protocol", "2") not in ("2", "3"):
        raise ValueError(say("asks for a protocol that is neither 2 nor 3"))
    database = options.pop("db", None)
    _check_options(options, is_socket=is_socket, is_tls=address.startswith("rediss://"))
    if not is_socket:
        address = _with_database(address, database)
    elif database is not None:
        options.setdefault("virtual_host", database)
    return f"{address}?{urlencode(options, safe='/')}" if options else address


def _check_options(options: dict[str, str], *, is_socket: bool, is_tls: bool) -> None:
    for name in options:
        if name == "virtual_host" and is_socket:
            continue
        if name not in _TLS:
            known = f"'{name}'" if name in _OF_CLIENTS else say("a parameter")
            raise ValueError(
                say(
                    "has {known} after '?', which is not taken here; timeouts and the like are set by LedgerQ",
                    known=known,
                )
            )
        if not is_tls:
            raise ValueError(say("has parameters of TLS, which need 'rediss://'"))
    if options.get("ssl_cert_reqs", "none").lower().removeprefix("cert_") not in ("none", "optional", "required"):
        raise ValueError(say("has an ssl_cert_reqs that is neither required, optional nor none"))


def _with_database(address: str, database: str | None) -> str:
    """The address with the number of the database behind the last slash, where all of them look for it."""
    scheme, _, rest = address.partition("://")
    server, slash, path = rest.partition("/")
    path = path.strip("/")
    if database is not None and path not in ("", "0", database):
        raise ValueError(say("names two databases: one after '/', another by '?db='"))
    path = path if database is None else database
    if path and not (path.isascii() and path.isdigit()):
        raise ValueError(say("has something after its last '/' that is not the number of a database"))
    return f"{scheme}://{server}{slash or '/' * bool(path)}{path}"


def _by_sentinel(url: str) -> Access:
    addresses, _, query = url.partition("?")
    options = _options(query)
    hosts: list[str] = []
    credentials: set[str] = set()
    databases: set[str] = set()
    written = addresses.split(";")
    if not all(one.startswith(SENTINEL) for one in written):
        raise ValueError(say("has a sentinel that does not begin with 'sentinel://'; in a password write ';' as %3B"))
    for one in written:
        hosts.append(_host(one))
        credentials.add(urlsplit(one).netloc.rpartition("@")[0])
        databases.add(urlsplit(one).path.strip("/"))
    credential, database = (
        _only(credentials, say("user and password")),
        _only(databases, say("number of a database")) or "0",
    )
    if not (database.isascii() and database.isdigit()):
        raise ValueError(say("has something after its last '/' that is not the number of a database"))
    user = f"{credential}@" if credential else ""
    # Written into each of them, because Celery looks at the first, and kombu at the one that it uses.
    return Access(";".join(f"{SENTINEL}{user}{host}/{database}" for host in hosts), options)


def _host(url: str) -> str:
    host: str | None
    port: int | None
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, _SENTINEL_PORT if parts.port is None else parts.port
        if parts.fragment:
            host = None
    except ValueError:
        host, port = None, None
    if not host or not port:
        raise ValueError(
            say("has a sentinel whose host or port cannot be read; in a password write '@', '/', '?' and '#' as %XX")
        )
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _only(found: set[str], what: str) -> str:
    given = found - {""}
    if len(given) > 1:
        raise ValueError(
            say("gives more than one {what}: it is the master's, and the same by every sentinel", what=what)
        )
    return given.pop() if given else ""


def _options(query: str) -> dict[str, Any]:
    given = dict(parse_qsl(query, keep_blank_values=True))
    if any(name.startswith("ssl") for name in given):
        raise ValueError(
            say("asks for TLS, which is not supported with Sentinel; use a tunnel, or a proxy by rediss://")
        )
    if any(name not in _PARAMETERS for name in given) or SENTINEL in query:
        raise ValueError(
            say("has something else after '?' than {known}, which stand once, at the end", known=", ".join(_PARAMETERS))
        )
    if not given.get("master_name"):
        raise ValueError(say("does not name the master that the sentinels watch; add '?master_name=NAME'"))
    # By default, redis-py waits several seconds for a sentinel that is away, and Celery waits without end.
    sentinel: dict[str, Any] = {
        "socket_timeout": _SENTINEL_SECONDS,
        "socket_connect_timeout": _SENTINEL_SECONDS,
        "retry": None,
    }
    for name in ("username", "password"):
        if value := given.get(f"sentinel_{name}"):
            sentinel[name] = value
    return {"master_name": given["master_name"], "sentinel_kwargs": sentinel}
