"""No false 202 and no false "nothing was recorded", whatever PostgreSQL does."""

from __future__ import annotations

import concurrent.futures

import psycopg2
import pytest

from tests.support import api as api_support
from tests.support import databases, wait
from tests.support.api import ANYTHING
from tests.support.proxy import CommitBreaker, Fate, SilentProxy

BODY = {"task_type": ANYTHING, "task_parameters": {}}


@pytest.fixture
def impatient(database, redis_database):
    api_support.register(database, *api_support.CATALOGUE)
    with api_support.serve(database, redis_database, ledger_timeout=3.0) as api:
        assert api.post("/tasks/submit", BODY).status == 202
        yield api


@pytest.fixture
def lock(impatient):
    """Somebody holds the table."""
    connection = psycopg2.connect(impatient.database_url)
    connection.cursor().execute("LOCK TABLE task IN ACCESS EXCLUSIVE MODE")
    yield connection
    connection.close()


def tasks(api):
    [(found,)] = databases.rows(api.database_url, "SELECT count(*) FROM task")
    return found


def test_a_commit_that_hangs_is_answered_in_time_and_never_as_accepted(impatient, lock):
    with concurrent.futures.ThreadPoolExecutor(2) as clients:
        begun = clients.submit(impatient.post, "/tasks/submit", BODY)
        waits = (
            "SELECT count(*) FROM pg_locks WHERE NOT granted "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        wait.until(lambda: databases.rows(impatient.database_url, waits) == [(1,)], what="the statement waits")
        behind = clients.submit(impatient.post, "/tasks/submit", BODY)
        first, second = begun.result(), behind.result()
    # The first one's statement was sent; the second's never was, and never will be.
    assert (first.status, first.json()["code"]) == (503, "outcome_unknown")
    assert (second.status, second.json()["code"]) == (503, "ledger_unavailable")
    lock.rollback()
    assert impatient.post("/tasks/submit", BODY).status == 202
    assert tasks(impatient) == 3


def test_reads_that_hang_are_answered_in_time(impatient, lock):
    for path in ("/tasks/", "/tasks/01985c3e-7a52-7d31-9b64-0c4f8f0e2a11/status"):
        answer = impatient.get(path)
        assert (answer.status, answer.json()["code"]) == (503, "ledger_unavailable")


def test_reads_of_a_postgresql_that_says_nothing_more_are_answered_in_time(database, redis_database):
    with (
        SilentProxy(database) as proxy,
        api_support.serve(proxy.url, redis_database, ledger_timeout=2.0) as api,
    ):
        assert api.get("/workers").status == 200
        proxy.silence()
        answer = api.get("/workers")
        assert (answer.status, answer.json()["code"]) == (503, "ledger_unavailable")
        assert answer.json()["detail"] == "PostgreSQL did not answer within 2 seconds."


def test_connections_that_died_while_idle_cost_nobody_an_error(impatient):
    impatient.get("/tasks/")
    databases.execute(
        impatient.database_url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'ledgerq-api' AND datname = current_database()",
    )
    assert impatient.post("/tasks/submit", BODY).status == 202
    assert impatient.get("/tasks/").json()["total_count"] == 2


@pytest.mark.parametrize("fate", [Fate.UNANSWERED, Fate.UNSENT])
def test_a_commit_that_loses_its_connection_is_repeated_under_the_same_id_until_it_is_known(
    database, redis_database, fate
):
    api_support.register(database, *api_support.CATALOGUE)
    with (
        CommitBreaker(database, tells_server=True) as proxy,
        api_support.serve(proxy.url, redis_database, ledger_timeout=20.0) as api,
    ):
        api.submit()
        proxy.arm(fate)
        task_id = api.submit()
        assert proxy.met.is_set()
        found = databases.rows(
            database, "SELECT t.id::text, count(*) FROM task t JOIN task_event ON task_id = id GROUP BY 1"
        )
        assert len(found) == 2
        assert (task_id, 1) in found
