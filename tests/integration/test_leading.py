"""One maintenance process leads, whoever else asks; and it declares nobody dead of whom it cannot know."""

from __future__ import annotations

import uuid
from types import SimpleNamespace

from ledgerq_shared.postgres.database import Database
from ledgerq_shared.statements.leader import give_up_leadership, take_leadership
from ledgerq_worker.maintenance.leader import Leadership
from tests.support import databases
from tests.support.lives import Worker
from tests.support.reaping import reaper


def test_of_two_one_leads_until_its_lease_is_over_or_it_gives_up(database):
    pool = Database(database, application_name="test")

    def leads(holder: uuid.UUID) -> bool:
        [row] = pool.fetch(take_leadership(name="maintenance", holder=holder, lease=60.0))
        return row.until is not None

    first, second = uuid.uuid4(), uuid.uuid4()
    assert [leads(first), leads(second), leads(first), leads(second)] == [True, False, True, False]
    databases.execute(database, "UPDATE leader SET until = now() - interval '1 second'")
    assert [leads(second), leads(first)] == [True, False], "its lease was over"
    pool.fetch(give_up_leadership(name="maintenance", holder=first))
    assert not leads(first), "only who leads can give it up"
    pool.fetch(give_up_leadership(name="maintenance", holder=second))
    assert leads(first)
    pool.close()


def test_who_leads_says_when_it_was_there_and_who_does_not_says_nothing(database):
    pool = Database(database, application_name="test")

    def beat_after(leadership: Leadership) -> object:
        leadership._ask()
        return databases.rows(database, "SELECT beat_at FROM leader WHERE name = 'maintenance'")

    leader, other = Leadership(pool, lease=60.0), Leadership(pool, lease=60.0)
    first = beat_after(leader)
    assert beat_after(other) == first
    assert beat_after(leader) > first
    pool.close()


def test_promise_3_after_an_outage_nobody_is_declared_dead_before_one_lease_has_passed(database):
    """During the outage nobody could renew a lease, so living nodes get the time to do it."""
    pool = Database(database, application_name="test")
    reap = reaper(pool)
    with Worker(database):
        databases.execute(database, "UPDATE worker SET lease_until = now() - interval '1 second'")
        for reachable_for, ended in ((0.0, None), (9.9, None), (10.0, "lost")):
            reap._leadership = SimpleNamespace(reachable_for=lambda seconds=reachable_for: seconds)
            reap.run_once()
            assert databases.rows(database, "SELECT ended_why FROM worker") == [(ended,)]
    pool.close()
