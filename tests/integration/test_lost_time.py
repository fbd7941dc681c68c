"""Lost time: a process stood still, or a database's clock jumped. No living node is declared dead because of it, and
dead nodes are found all the same.
"""

from __future__ import annotations

import signal
import uuid
from typing import TYPE_CHECKING

import pytest

from ledgerq_shared.postgres.database import Database
from ledgerq_shared.statements.workers import renew_lease
from ledgerq_worker.maintenance.leader import Leadership
from ledgerq_worker.maintenance.pulse import Pulse
from ledgerq_worker.maintenance.reaper import Reap
from tests.support import databases, wait
from tests.support.db_clock import DatabaseClock
from tests.support.lives import registration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.stack import Stack

#: A node's lease, in seconds.
LEASE = 1.0


@pytest.fixture
def clock(database: str) -> DatabaseClock:
    return DatabaseClock(database)


@pytest.fixture
def ledger(clock: DatabaseClock, database: str) -> Iterator[Database]:
    pool = Database(database, application_name="test")
    yield pool
    pool.close()


@pytest.fixture
def leadership(ledger: Database) -> Leadership:
    made = Leadership(ledger, lease=30.0, pulse=Pulse(60.0))
    assert made.leads()
    return made


@pytest.fixture
def reap(ledger: Database, leadership: Leadership) -> Reap:
    """A maintenance process, which may declare nodes dead."""
    wait.until(lambda: leadership.reachable_for() > LEASE, what="PostgreSQL has answered for a lease")
    return Reap(ledger, leadership, every=1.0, lease=LEASE, quarantine_after=3)


def _node(ledger: Database, lease: float) -> uuid.UUID:
    worker_id = uuid.uuid4()
    ledger.fetch(registration(worker_id, "node", lease=lease))
    return worker_id


def _why(database: str, worker_id: uuid.UUID) -> object:
    return databases.rows(database, "SELECT ended_why FROM worker WHERE id = %s", (str(worker_id),))[0][0]


@pytest.mark.parametrize("hours", [1, -1], ids=["ahead", "back"])
def test_promise_3_a_jump_of_the_databases_clock_gives_every_node_one_lease_to_renew_its_own(
    database: str, clock: DatabaseClock, ledger: Database, leadership: Leadership, reap: Reap, hours: int
):
    leadership._pulse.patience = LEASE / 2
    lives, is_dead = _node(ledger, 60.0), _node(ledger, 60.0)
    clock.shift(hours * 3600)
    reap.run_once()
    assert (_why(database, lives), _why(database, is_dead)) == (None, None), "nobody could renew its lease yet"
    assert ledger.fetch(renew_lease(worker_id=lives, lease=60.0, stopping=False)) == [(True, True)]
    wait.until(lambda: reap.run_once() or _why(database, is_dead), 30, what="the dead node is found out")
    assert (_why(database, lives), _why(database, is_dead)) == (None, "lost")


def test_to_wait_for_an_answer_is_no_jump_of_the_clock(database: str, ledger: Database, leadership: Leadership):
    """It takes longer than the time that may be lost."""
    leadership._pulse.patience = 0.2
    since = leadership._reachable_since
    slow = (
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.5); RETURN NEW; END $$"
    )
    databases.execute(database, slow)
    databases.execute(database, "CREATE TRIGGER slow BEFORE UPDATE ON leader FOR EACH ROW EXECUTE FUNCTION slow()")
    leadership.reachable_for()
    leadership.reachable_for()
    assert leadership._reachable_since == since


def test_a_dead_leaders_lease_from_before_the_clock_was_set_back_is_over(
    clock: DatabaseClock, ledger: Database, leadership: Leadership
):
    other = Leadership(ledger, lease=30.0)
    assert not other.leads()
    clock.shift(-3600)
    other.lost_touch()
    assert other.leads()
    leadership.lost_touch()
    assert not leadership.leads(), "one of them leads"


def test_promise_3_after_a_standstill_of_maintenance_and_workers_nobody_is_declared_dead_for_one_lease(
    stack: Stack, database: str
):
    settings = {"LEDGERQ_LEASE_SECONDS": "2", "LEDGERQ_LEADER_SECONDS": "30"}
    maintenance = stack.maintenance(**settings)
    maintenance.says("maintenance.leads")
    dead = uuid.uuid4()
    pool = Database(database, application_name="test")
    pool.fetch(registration(dead, "dead", lease=0.0))
    wait.until(lambda: _why(database, dead), 30, what=lambda: f"maintenance declares dead; {maintenance.log()}")
    alive = _node(pool, 2.0)  # what froze maintenance has frozen this node, too
    maintenance.send(signal.SIGSTOP)
    over = "SELECT lease_until < now() - interval '1 second' FROM worker WHERE id = %s"
    wait.until(lambda: databases.rows(database, over, (str(alive),)) == [(True,)], 30, what="its lease is over")
    maintenance.send(signal.SIGCONT)
    wait.until(lambda: "time_was_lost" in maintenance.log() or _why(database, alive), 30, what=maintenance.log)
    assert pool.fetch(renew_lease(worker_id=alive, lease=60.0, stopping=False)) == [(True, True)]
    pool.close()
