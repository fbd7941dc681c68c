"""What the doctor finds, and what it says about it: everything around the statements, and the statements themselves."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from typing import NamedTuple

from ledgerq_shared.doctor.rehearsal import rehearse
from ledgerq_shared.doctor.verdicts import Finding, Verdict
from ledgerq_shared.languages import say
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.postgres.durability import look, replication_figures
from ledgerq_shared.postgres.figures import Figures
from ledgerq_shared.postgres.replica import Replica
from ledgerq_shared.revision import check_revision
from ledgerq_shared.settings import SettingsError
from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.read_metrics import SERVER_FIGURES, TABLE_FIGURES, read_server, read_tables

OK, CHANGE, FAILS = Verdict

_OLDEST_SERVER = 120000
#: By how many seconds clocks may differ: ids and lists are in the order of the clocks that made the ids, so these
#: should agree.
_CLOCKS_AGREE = 1.0
#: With fewer connections than this there may be too few: a worker needs one for each slot and four more, and the API,
#: maintenance and the monitor need some.
_FEW_CONNECTIONS = 30
#: Extensions that run a statement with several writes on several servers, or treat a partition as a table of their own.
_SHARDING = ("citus", "pg_shard", "pgxl", "timescaledb")

_SEEN = """
SELECT current_setting('server_version_num')::integer, current_setting('server_version'), pg_is_in_recovery(),
       current_setting('server_encoding'), current_setting('fsync'), current_setting('full_page_writes'),
       current_setting('synchronous_commit'), current_setting('autovacuum'), current_setting('max_connections')::integer,
       {used},
       extract(epoch FROM clock_timestamp())::float8,
       (SELECT array_agg(extname::text) FROM pg_extension WHERE extname = ANY (%(sharding)s)),
       has_schema_privilege(current_schema(), 'CREATE'), current_schema(),
       (SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('task_event'))
"""


#: The number of the server process that answers.
_ASK_WHO: Statement[tuple[int]] = Statement("SELECT pg_backend_pid()", {})
_USED = "(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')"


class _Server(NamedTuple):
    """What a server says of itself."""

    #: As PostgreSQL counts (``160003``), and for people.
    number: int
    version: str
    is_standby: bool
    #: The values of these settings.
    server_encoding: str
    fsync: str
    full_page_writes: str
    synchronous_commit: str
    autovacuum: str
    #: How many connections it allows, and how many there are; None: this role is not told.
    max_connections: int
    connections: int | None
    #: Its time, in seconds since 1970.
    clock: float
    #: Of the extensions that we cannot live with; None: it has none of them.
    sharding: list[str] | None
    #: Whether this role may make tables in the schema, and do as the owner of the event log may; None: there is none yet.
    may_create: bool
    schema: str
    owns_events: bool | None


def _read_server(without: Collection[str]) -> Statement[_Server]:
    return Statement(_SEEN.format(used="NULL" if without else _USED), {"sharding": list(_SHARDING)}, row=_Server._make)


def examine(database: Database, *, require_sync: int, replica: Replica | None = None) -> Iterator[Finding]:
    """What is well and what is not, in the order in which it should be corrected.

    Args:
        require_sync: how many standbys the operator demands for each commit.
        replica: the replica for reads that may be old; None: there is none.

    Raises:
        LedgerUnavailable: PostgreSQL is away.
    """
    began = time.time()
    with database.transaction(writes=False) as cursor:
        [seen] = Figures(_read_server, ["used connections"]).fetch(cursor)
    ended = time.time()
    yield from _server(seen)
    yield from _settings(seen)
    yield from _surroundings(seen, began, ended)
    yield _durability(database, require_sync)
    if seen.is_standby:
        return
    with database.transaction() as cursor:
        [(answered,)] = execute(cursor, _ASK_WHO)
        yield _pooler(answered, cursor.connection.info.backend_pid)
    try:
        check_revision(database)
    except SettingsError as error:
        yield Finding(FAILS, "tables", error.said)
        return
    yield Finding(OK, "tables", say("as new as this release"))
    if replica is not None:
        yield _replica(replica)
    yield from _statements(database)
    yield from _figures(database)


def _server(seen: _Server) -> Iterator[Finding]:
    if seen.number < _OLDEST_SERVER:
        yield Finding(FAILS, "version", say("PostgreSQL {version}: LedgerQ needs 12 or newer", version=seen.version))
    else:
        yield Finding(OK, "version", say("PostgreSQL {version}", version=seen.version))
    if seen.is_standby:
        yield Finding(FAILS, "role", say("a standby, which cannot be written to: name all servers in DATABASE_URL"))
    if seen.server_encoding != "UTF8":
        yield Finding(
            FAILS,
            "encoding",
            say(
                "{server_encoding}: make a database with ENCODING 'UTF8' TEMPLATE template0",
                server_encoding=seen.server_encoding,
            ),
        )


def _settings(seen: _Server) -> Iterator[Finding]:
    if seen.fsync != "on":
        yield Finding(FAILS, "fsync", say("off: a power cut loses or destroys the ledger. Set it to on"))
    if seen.full_page_writes != "on":
        yield Finding(CHANGE, "full_page_writes", say("off: safe only where the disk writes pages whole. Set it to on"))
    if seen.synchronous_commit == "off":
        yield Finding(FAILS, "synchronous_commit", say("off: what is accepted is not durable yet. Set it to on"))
    if seen.autovacuum != "on":
        yield Finding(CHANGE, "autovacuum", say("off: claims and counters get slower by the hour. Set it to on"))
    if seen.connections is None:
        yield Finding(
            OK,
            "connections",
            say(
                "{max_connections} in all; this role is not told how many are free",
                max_connections=seen.max_connections,
            ),
        )
        return
    free = seen.max_connections - seen.connections
    verdict = CHANGE if free < _FEW_CONNECTIONS else OK
    advice = say(": raise max_connections; a worker takes one a slot, and four" if verdict is CHANGE else "")
    yield Finding(
        verdict,
        "connections",
        say(
            "{free} of {max_connections} are free{advice}",
            free=free,
            max_connections=seen.max_connections,
            advice=advice,
        ),
    )


def _surroundings(seen: _Server, began: float, ended: float) -> Iterator[Finding]:
    early, late = seen.clock - ended, seen.clock - began
    off = max(early, -late, 0.0)
    text = say("ahead of" if early > 0 else "behind")
    if off > _CLOCKS_AGREE:
        yield Finding(
            CHANGE,
            "clocks",
            say("the server's is {off:.1f} s {text} this machine's: run NTP on both", off=off, text=text),
        )
    else:
        yield Finding(OK, "clocks", say("the server's and this machine's agree"))
    if seen.sharding:
        names = ", ".join(seen.sharding)
        yield Finding(
            FAILS, "extensions", say("{names}: not supported in the ledger's database (docs/adr/0031)", names=names)
        )
    if not seen.may_create:
        yield Finding(
            CHANGE,
            "privileges",
            say("no CREATE on schema {schema}: maintenance cannot make partitions", schema=seen.schema),
        )
    elif seen.owns_events is False:
        yield Finding(CHANGE, "privileges", say("task_event is another role's: maintenance cannot make its partitions"))
    else:
        yield Finding(OK, "privileges", say("this role may make partitions"))


def _pooler(answered: int, told: int) -> Finding:
    if answered == told:
        return Finding(OK, "pooler", say("none: busy statements stay prepared"))
    return Finding(
        CHANGE,
        "pooler",
        say("there is one between: transaction mode works, but statements are planned each time. Go past it"),
    )


def _durability(database: Database, require_sync: int) -> Finding:
    found = look(database)
    if lacks := found.lacks(require_sync):
        return Finding(FAILS, "standbys", lacks)
    if not found.confirming:
        return Finding(OK, "standbys", say("no commit waits for one: what a failover loses is told in the guide"))
    return Finding(
        OK, "standbys", say("{confirming} have each commit before it is confirmed", confirming=found.confirming)
    )


def _replica(replica: Replica) -> Finding:
    try:
        replica.check()
    except SettingsError as error:
        return Finding(FAILS, "replica", error.said)
    is_used, text = replica.would_be_used()
    return Finding(OK if is_used else CHANGE, "replica", text)


def _statements(database: Database) -> Iterator[Finding]:
    rehearsal = rehearse(database)
    for name, why in rehearsal.refused.items():
        yield Finding(FAILS, f"statement {name}", why)
    well = len(rehearsal.names) - len(rehearsal.refused)
    yield Finding(
        OK, "statements", say("{well} of {count} ran, and were rolled back", well=well, count=len(rehearsal.names))
    )


def _figures(database: Database) -> Iterator[Finding]:
    for figures in (Figures(read_server, SERVER_FIGURES), Figures(read_tables, TABLE_FIGURES), replication_figures()):
        with database.transaction(writes=False) as cursor:
            figures.fetch(cursor)
        for name, why in figures.refused.items():
            yield Finding(CHANGE, f"figure {name}", say("{why}: the monitor goes without it", why=why))
