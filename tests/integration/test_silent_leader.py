"""A leader that was replaced answers TCP and nothing else: nobody waits for it, and nobody hangs up on one that works."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from ledgerq_shared.errors import LedgerUnavailable, OutcomeUnknown
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.sql import Statement
from tests.support import databases, wait
from tests.support.proxy import SilentProxy
from tests.support.replicated import Replicated, Server
from tests.support.urls import one_url, port_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHERE = Statement("SELECT inet_server_port()", {})
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"


@pytest.fixture
def pair(workspace: Path) -> Iterator[Replicated]:
    with Replicated(workspace) as servers:
        yield servers


def test_whoever_waits_for_a_frozen_leader_turns_to_the_next_one(pair: Replicated):
    [standby] = pair.standbys
    url = one_url(pair.primary.url, standby.url)

    def by_transaction(pool: Database) -> list[tuple[int]]:
        with pool.transaction() as cursor:
            return execute(cursor, WHERE)

    def by_reads(pool: Database) -> list[tuple[int]]:
        with pool.reads() as cursor:
            return execute(cursor, WHERE)

    def by_fetch(pool: Database) -> list[tuple[int]]:
        return pool.fetch(WHERE, writes=True)

    ways = (by_transaction, by_reads, by_fetch)
    pools = [Database(url, application_name="test-silent", answers_within=1, keeps_statements=True) for _ in ways]
    assert [way(pool) for way, pool in zip(ways, pools, strict=True)] == [[(port_of(pair.primary.url),)]] * 3
    pair.primary.freeze()
    with ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(way, pool) for way, pool in zip(ways, pools, strict=True)]
        standby.promote()
        for one in waiting:
            with pytest.raises((LedgerUnavailable, OutcomeUnknown)):
                one.result(60)
    assert [way(pool) for way, pool in zip(ways, pools, strict=True)] == [[(port_of(standby.url),)]] * 3
    for pool in pools:
        pool.close()


def test_a_statement_and_a_lock_may_take_long_where_the_server_is_at_it(database: str):
    with closing(Database(database, application_name="test-long", answers_within=1, keeps_statements=True)) as pool:
        assert pool.fetch(Statement("SELECT 1 FROM pg_sleep(4)", {})) == [(1,)]
        with pool.transaction() as cursor:
            execute(cursor, Statement("SELECT pg_advisory_xact_lock(7)", {}))
            with ThreadPoolExecutor(1) as threads:
                lock = Statement("SELECT 1 FROM pg_advisory_xact_lock(7)", {})
                patient = Database(database, application_name="test-long", answers_within=1, lock_timeout=60)
                waiting = threads.submit(patient.fetch, lock)
                for _ in range(3):  # a client that works between two statements is not silent either
                    execute(cursor, Statement("SELECT pg_sleep(1)", {}))
                cursor.execute("COMMIT")
                assert waiting.result(30) == [(1,)]
                cursor.execute("BEGIN")


def test_a_wait_that_was_forgotten_on_the_way_ends_although_somebody_goes_on_to_acknowledge(database: str):
    with (
        SilentProxy(database) as way,
        closing(Database(way.url, application_name="test-way", answers_within=1)) as pool,
    ):
        assert pool.fetch(WHERE)
        way.silence()
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(pool.fetch, WHERE)
            with pytest.raises(LedgerUnavailable):
                waiting.result(60)
        assert pool.fetch(WHERE)


def test_a_wait_for_a_frozen_server_that_is_given_up_holds_up_no_other_thread(workspace: Path):
    """libpq's own request to cancel would wait for it, and psycopg2 keeps the GIL meanwhile."""
    server = Server(workspace, "frozen")
    server.start()
    looks, is_over = [], threading.Event()

    def look() -> None:
        while not is_over.wait(0.05):
            looks.append(thawing.poll())

    pool = Database(server.url, application_name="test-cancel", commit_patience=0.2, connect_timeout=2)
    with pool.transaction() as cursor:
        execute(cursor, Statement("SELECT txid_current()", {}))
        thawing = server.thaw_after(4)
        beside = threading.Thread(target=look)
        beside.start()
    is_over.set()
    beside.join()
    thawing.wait()
    pool.close()
    server.kill()
    assert looks.count(None) > 20, "every thread stood still"


def test_connections_that_nobody_uses_are_closed_down_to_the_spare_ones(database: str):
    spare = 2
    with closing(Database(database, application_name="test-spare", size=8, spare=lambda: spare)) as pool:
        hold = threading.Barrier(6)

        def use(_: int) -> None:
            with pool.transaction() as cursor:
                execute(cursor, WHERE)
                hold.wait(30)

        with ThreadPoolExecutor(6) as threads:
            list(threads.map(use, range(6)))
        assert databases.rows(database, SESSIONS, ("test-spare",)) == [(6,)]
        wait.until(lambda: databases.rows(database, SESSIONS, ("test-spare",)) == [(2,)], 60, what="two are kept")
        spare = 0
        wait.until(lambda: databases.rows(database, SESSIONS, ("test-spare",)) == [(0,)], 60, what="none is kept")
        assert pool.fetch(WHERE)
