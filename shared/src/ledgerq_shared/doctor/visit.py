"""Checks everything around the statements, and the statements themselves."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from typing import Any

from ledgerq_shared.database import Database
from ledgerq_shared.doctor.findings import Finding, Verdict
from ledgerq_shared.doctor.rehearsal import rehearse
from ledgerq_shared.durability import look, replication_figures
from ledgerq_shared.figures import Figures
from ledgerq_shared.replica import Replica
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
       extract(epoch FROM clock_timestamp())::float8, pg_backend_pid(),
       (SELECT array_agg(extname::text) FROM pg_extension WHERE extname = ANY (%(sharding)s)),
       has_schema_privilege(current_schema(), 'CREATE'), current_schema(),
       (SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('task_event'))
"""


_USED = "(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')"


def _read_seen(without: Collection[str]) -> Statement:
    return Statement(_SEEN.format(used="NULL" if without else _USED), {"sharding": list(_SHARDING)})


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
        [row] = Figures(_read_seen, ["used connections"]).fetch(cursor)
    seen = _Seen(row, began, time.time())
    yield from seen.server()
    yield from seen.settings()
    yield from seen.surroundings()
    yield _durability(database, require_sync)
    if seen.is_standby:
        return
    with database.transaction() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        yield _pooler(cursor.fetchone(), cursor.connection.info.backend_pid)
    try:
        check_revision(database)
    except SettingsError as error:
        yield Finding(FAILS, "tables", str(error))
        return
    yield Finding(OK, "tables", "as new as this release")
    if replica is not None:
        yield _replica(replica)
    yield from _statements(database)
    yield from _figures(database)


class _Seen:
    """The row of ``_SEEN``."""

    def __init__(self, row: tuple[Any, ...], began: float, ended: float) -> None:
        (
            self._number, self._version, self.is_standby, self._encoding, self._fsync, self._full_pages, self._commit,
            self._autovacuum, self._most, self._used, self._clock, _, self._sharding, self._may_create, self._schema,
            self._owns,
        ) = row  # fmt: skip
        self._early, self._late = self._clock - ended, self._clock - began

    def server(self) -> Iterator[Finding]:
        if self._number < _OLDEST_SERVER:
            yield Finding(FAILS, "version", f"PostgreSQL {self._version}: LedgerQ needs 12 or newer")
        else:
            yield Finding(OK, "version", f"PostgreSQL {self._version}")
        if self.is_standby:
            yield Finding(FAILS, "role", "a standby, which cannot be written to: name all servers in DATABASE_URL")
        if self._encoding != "UTF8":
            yield Finding(
                FAILS, "encoding", f"{self._encoding}: make a database with ENCODING 'UTF8' TEMPLATE template0"
            )

    def settings(self) -> Iterator[Finding]:
        if self._fsync != "on":
            yield Finding(FAILS, "fsync", "off: a power cut loses or destroys the ledger. Set it to on")
        if self._full_pages != "on":
            yield Finding(CHANGE, "full_page_writes", "off: safe only where the disk writes pages whole. Set it to on")
        if self._commit == "off":
            yield Finding(FAILS, "synchronous_commit", "off: what is accepted is not durable yet. Set it to on")
        if self._autovacuum != "on":
            yield Finding(CHANGE, "autovacuum", "off: claims and counters get slower by the hour. Set it to on")
        if self._used is None:
            yield Finding(OK, "connections", f"{self._most} in all; this role is not told how many are free")
            return
        free = self._most - self._used
        verdict = CHANGE if free < _FEW_CONNECTIONS else OK
        advice = ": raise max_connections; a worker takes one a slot, and four" if verdict is CHANGE else ""
        yield Finding(verdict, "connections", f"{free} of {self._most} are free{advice}")

    def surroundings(self) -> Iterator[Finding]:
        off = max(self._early, -self._late, 0.0)
        text = "ahead of" if self._early > 0 else "behind"
        if off > _CLOCKS_AGREE:
            yield Finding(CHANGE, "clocks", f"the server's is {off:.1f} s {text} this machine's: run NTP on both")
        else:
            yield Finding(OK, "clocks", "the server's and this machine's agree")
        if self._sharding:
            names = ", ".join(self._sharding)
            yield Finding(FAILS, "extensions", f"{names}: not supported in the ledger's database (docs/adr/0031)")
        if not self._may_create:
            yield Finding(
                CHANGE, "privileges", f"no CREATE on schema {self._schema}: maintenance cannot make partitions"
            )
        elif self._owns is False:
            yield Finding(CHANGE, "privileges", "task_event is another role's: maintenance cannot make its partitions")
        else:
            yield Finding(OK, "privileges", "this role may make partitions")


def _pooler(answered: tuple[Any, ...] | None, told: int) -> Finding:
    if answered == (told,):
        return Finding(OK, "pooler", "none: busy statements stay prepared")
    return Finding(
        CHANGE,
        "pooler",
        "there is one between: transaction mode works, but statements are planned each time. Go past it",
    )


def _durability(database: Database, require_sync: int) -> Finding:
    found = look(database)
    if lacks := found.lacks(require_sync):
        return Finding(FAILS, "standbys", lacks)
    if not found.confirming:
        return Finding(OK, "standbys", "no commit waits for one: what a failover loses is told in the guide")
    return Finding(OK, "standbys", f"{found.confirming} have each commit before it is confirmed")


def _replica(replica: Replica) -> Finding:
    try:
        replica.check()
    except SettingsError as error:
        return Finding(FAILS, "replica", str(error))
    is_used, text = replica.would_be_used()
    return Finding(OK if is_used else CHANGE, "replica", text)


def _statements(database: Database) -> Iterator[Finding]:
    rehearsal = rehearse(database)
    for name, why in rehearsal.refused.items():
        yield Finding(FAILS, f"statement {name}", why)
    well = len(rehearsal.names) - len(rehearsal.refused)
    yield Finding(OK, "statements", f"{well} of {len(rehearsal.names)} ran, and were rolled back")


def _figures(database: Database) -> Iterator[Finding]:
    for figures in (Figures(read_server, SERVER_FIGURES), Figures(read_tables, TABLE_FIGURES), replication_figures()):
        with database.transaction(writes=False) as cursor:
            figures.fetch(cursor)
        for name, why in figures.refused.items():
            yield Finding(CHANGE, f"figure {name}", f"{why}: the monitor goes without it")
