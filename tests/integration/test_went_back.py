"""The ledger goes back in time while nobody submits: who writes periodically misses what it wrote itself."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from ledgerq_shared.postgres.database import Database
from ledgerq_worker.maintenance.leader import Leadership
from tests.support import databases, wait
from tests.support.proxy import Proxy
from tests.support.replicated import Replicated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.stack import Stack

NOTED = "SELECT noticed_by, lost, sent_again, lost_since < noticed_at FROM went_back"


@pytest.fixture
def ledger(database: str) -> Iterator[Database]:
    pool = Database(database, application_name="test")
    yield pool
    pool.close()


def test_an_asynchronous_failover_is_noticed_by_maintenance_and_by_a_node_that_it_has_forgotten(
    stack: Stack, workspace: Path, redis_database: str
):
    with Replicated(workspace) as pair, Proxy(pair.primary.url) as way:
        [standby] = pair.standbys
        stack.environment |= {"DATABASE_URL": way.url, "REDIS_URL": redis_database, "LEDGERQ_LEASE_SECONDS": "2"}
        maintenance = stack.maintenance(LEDGERQ_LEADER_SECONDS="1")
        maintenance.says("maintenance.leads")
        pair.all_have_it()
        standby.follow(None)
        [(lost,)] = databases.rows(pair.primary.url, "SELECT until FROM leader")
        worker = stack.worker()
        worker.says("worker.registered")
        renewed = "SELECT until > %s + interval '1 second' FROM leader"
        wait.until(lambda: databases.rows(pair.primary.url, renewed, (lost,)) == [(True,)], what="it is renewed")
        way.turn_to(None)
        pair.primary.kill()
        standby.promote()
        way.turn_to(standby.url)
        assert '"timeline": "00000002", "before": "00000001"' in maintenance.says("ledger.went_back")
        worker.says("ledger.went_back")
        wait.until(
            lambda: databases.rows(standby.url, "SELECT count(*) FROM worker") == [(1,)], what="it is known again"
        )
        found = databases.rows(standby.url, NOTED)
        assert found in ([("maintenance", 0, 0, True)], [("worker", 0, 0, True)]), "whoever was first"
        stack.close()


def test_a_failover_that_loses_nothing_is_noticed_by_nobody(stack: Stack, workspace: Path, redis_database: str):
    """Renewals of a node's lease wait for no standby, so they may be lost: that says nothing."""
    with Replicated(workspace) as pair, Proxy(pair.primary.url) as way:
        [standby] = pair.standbys
        pair.primary.demand("standby1")
        stack.environment |= {"DATABASE_URL": way.url, "REDIS_URL": redis_database, "LEDGERQ_LEASE_SECONDS": "2"}
        maintenance = stack.maintenance(LEDGERQ_LEADER_SECONDS="1")
        maintenance.says("maintenance.leads")
        worker = stack.worker()
        worker.says("worker.registered")
        way.turn_to(None)
        pair.primary.kill()
        standby.promote()
        [(before,)] = databases.rows(standby.url, "SELECT until FROM leader")
        databases.execute(standby.url, "UPDATE worker SET lease_until = lease_until - interval '1 second'")
        standby.demand("")
        way.turn_to(standby.url)
        for sql in ("SELECT until > %s FROM leader", "SELECT lease_until > %s FROM worker"):
            wait.until(
                lambda sql=sql: databases.rows(standby.url, sql, (before,)) == [(True,)], 60, what="it is renewed"
            )
        assert databases.rows(standby.url, "SELECT count(*), count(ended_at) FROM worker") == [(1, 0)]
        assert databases.rows(standby.url, NOTED) == []
        assert "ledger.went_back" not in stack.logs()
        stack.close()


@pytest.mark.parametrize("leads", [True, False])
def test_a_restore_is_noticed_by_who_leads_and_by_who_stands_by(database: str, ledger: Database, leads: bool):
    one = Leadership(ledger, lease=30.0)
    other = Leadership(ledger, lease=30.0)
    assert one.leads()
    assert not other.leads()
    databases.execute(database, f"UPDATE leader SET until = now() - interval '1 day', holder = '{uuid.uuid4()}'")
    who = one if leads else other
    who.lost_touch()
    assert who.leads()
    for again in (one, other):
        again.lost_touch()
        again.leads()
    assert databases.rows(database, NOTED) == [("maintenance", 0, 0, True)]
    [(ago,)] = databases.rows(database, "SELECT extract(epoch FROM noticed_at - lost_since)::float8 FROM went_back")
    assert ago == pytest.approx(86_400 + 30, abs=60)


def test_a_leader_that_is_followed_by_another_and_leads_again_has_lost_nothing(database: str, ledger: Database):
    one, other = (Leadership(ledger, lease=30.0) for _ in range(2))
    for _ in range(2):
        assert one.leads()
        one.give_up()
        for leadership in (other, one):
            leadership.lost_touch()
            leadership.leads()
        other.give_up()
        one.lost_touch()
    assert databases.rows(database, NOTED) == []


def test_a_ledger_that_hides_its_timeline_is_compared_all_the_same(database: str, ledger: Database):
    name = database.rsplit("/", 1)[1].partition("?")[0]
    databases.execute(
        database,
        f"""
        CREATE SCHEMA other; ALTER DATABASE "{name}" SET search_path = other, pg_catalog, public;
        CREATE FUNCTION other.pg_current_wal_lsn() RETURNS pg_lsn LANGUAGE plpgsql AS
        $$BEGIN RAISE insufficient_privilege USING MESSAGE = 'permission denied'; END$$
        """,
    )
    one = Leadership(ledger, lease=30.0)
    assert one.leads()
    databases.execute(database, "UPDATE leader SET until = until - interval '20 seconds'")
    one.lost_touch()
    assert one.leads()
    assert databases.rows(database, "SELECT noticed_by, timeline FROM went_back") == [("maintenance", None)]
