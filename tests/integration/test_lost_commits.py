"""A connection that is lost in COMMIT: nobody knows what has become of it, and nobody says so."""

from __future__ import annotations

import pytest

from ledgerq_shared.errors import LedgerUnavailable, OutcomeUnknown
from ledgerq_shared.postgres.database import Database
from tests.support import databases
from tests.support.proxy import CommitBreaker, Fate


@pytest.mark.parametrize(("fate", "rows"), [(Fate.UNANSWERED, 1), (Fate.UNSENT, 0)])
def test_a_connection_lost_in_commit_is_an_unknown_outcome_and_before_it_an_outage(database, fate, rows):
    with CommitBreaker(database, tells_server=True) as proxy:
        pool = Database(proxy.url, application_name="test-commit", size=1)
        proxy.arm(fate)
        with pytest.raises(OutcomeUnknown), pool.transaction() as cursor:
            cursor.execute("INSERT INTO queue (name) VALUES ('q')")
        assert databases.rows(database, "SELECT count(*) FROM queue") == [(rows,)]
        with pool.transaction() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            [(pid,)] = cursor.fetchall()
        assert databases.rows(database, "SELECT pg_terminate_backend(%s)", (pid,)) == [(True,)]
        with pytest.raises(LedgerUnavailable), pool.transaction() as cursor:
            cursor.execute("INSERT INTO queue (name) VALUES ('r')")
        with pool.transaction() as cursor:  # over a new connection
            cursor.execute("INSERT INTO queue (name) VALUES ('s')")
        pool.close()
