"""A PostgreSQL that keeps something to itself, as Aurora does, and operators who take rights away: the rest is told."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from ledgerq_monitor.collectors.collector import Ledger
from ledgerq_monitor.collectors.postgresql import Replication, Server, Tables
from ledgerq_shared.postgres.database import Database
from tests.integration.test_doctor import doctor
from tests.support import databases, http

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.stack import Stack

PREFIX = "ledgerq_postgresql_"
#: What is taken away, and which figures go with it.
TAKEN = {
    "EXECUTE ON FUNCTION pg_current_wal_lsn()": {"wal_bytes_total", "wal_retained_bytes", "timeline"},
    "EXECUTE ON FUNCTION pg_walfile_name(pg_lsn)": {"timeline"},
    "EXECUTE ON FUNCTION pg_database_size(name)": {"database_bytes"},
    "EXECUTE ON FUNCTION pg_total_relation_size(regclass)": {"table_bytes"},
    "SELECT ON pg_stat_replication": {"standbys"},
    "SELECT ON pg_replication_slots": {"wal_retained_bytes"},
    "SELECT ON pg_stat_activity": {"connections", "oldest_transaction_seconds"},
}


@pytest.fixture
def reader(database: str) -> Iterator[str]:
    """The URL of a role that may read and no more."""
    name = urlsplit(database).path[1:]
    databases.execute(
        database, f"CREATE ROLE r_{name} LOGIN PASSWORD 'x'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO r_{name}"
    )
    parts = urlsplit(database)
    yield f"postgresql://r_{name}:x@{parts.hostname}:{parts.port}/{name}"
    databases.execute(database, f"DROP OWNED BY r_{name}; DROP ROLE r_{name}")


def take(database: str, *rights: str) -> None:
    """From everybody; rights on what PostgreSQL brings along are each database's own."""
    databases.execute(database, "; ".join(f"REVOKE {right} FROM PUBLIC" for right in rights))


def figures(url: str) -> set[str]:
    pool = Database(url, application_name="test")
    ledger = Ledger(pool, timeout=5.0)
    collectors = (Server(ledger, disk_budget=1), Tables(ledger), Replication(ledger, required=0))
    found = {family.name for one in collectors for family in one.collect() if family.samples}
    pool.close()
    return {re.sub("(wal_bytes)$", r"\1_total", name.removeprefix(PREFIX)) for name in found}


@pytest.mark.parametrize("right", TAKEN)
def test_what_is_refused_costs_its_own_figures_and_no_others(database: str, reader: str, right: str):
    before = figures(reader)
    take(database, right)
    assert before - figures(reader) == TAKEN[right] & before
    assert TAKEN[right] <= before, "they were there"


def test_the_monitor_says_once_what_is_refused_and_goes_on(stack: Stack, database: str, reader: str):
    take(database, *TAKEN)
    monitor = stack.monitor(DATABASE_URL=reader, LEDGERQ_MONITOR_CACHE_SECONDS="0")
    for _ in range(3):
        body = http.request("GET", f"{monitor.url}/metrics").body.decode()
    for collector in ("postgresql", "tables", "replication"):
        assert f'ledgerq_monitor_collector_up{{collector="{collector}"}} 1.0' in body, monitor.log()
    assert "ledgerq_postgresql_max_connections " in body
    refused = re.findall(r'"figure": "(\w+)"', monitor.log())
    assert sorted(refused) == sorted(set(refused)), "once each"
    assert {"wal_bytes", "timeline", "table_bytes", "connections"} <= set(refused)


def test_the_doctor_names_what_is_refused_and_looks_at_all_else(database: str, reader: str):
    take(database, *TAKEN)
    _, text = doctor(reader)
    for name in ("wal_bytes", "timeline", "table_bytes", "database_bytes"):
        assert re.search(rf"change +figure {name} +permission denied", text), text
    assert re.search(r"ok +standbys ", text), text
    assert "statement submit_plain_tasks" in text


def test_a_service_that_demands_standbys_starts_by_what_the_settings_say(stack: Stack, database: str, reader: str):
    take(database, *TAKEN)
    running = stack.start("api", "-m", "ledgerq_api", DATABASE_URL=reader, LEDGERQ_REQUIRE_SYNC="1")
    assert running.wait(60) == 2
    assert "synchronous_standby_names is ''" in running.log(), running.log()
