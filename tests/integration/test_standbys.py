"""Synchronous standbys: nothing is said to be kept that no standby has, whatever becomes of a COMMIT that waits."""

from __future__ import annotations

import shutil
import tempfile
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ledgerq_shared.errors import LedgerUnavailable, OutcomeUnknown
from ledgerq_shared.postgres.database import Database
from ledgerq_shared.sql import Statement
from tests.support import api as api_support
from tests.support import databases, wait
from tests.support.replicated import Replicated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = current_database()"


@pytest.fixture(scope="module")
def pair(run_folder: Path) -> Iterator[Replicated]:
    """A primary and a standby, for all tests here."""
    folder = Path(tempfile.mkdtemp(prefix="pair-", dir=run_folder))
    folder.chmod(0o755)
    with Replicated(folder) as made:
        yield made
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def ledger(pair: Replicated) -> Iterator[str]:
    """A migrated database on the primary, which waits for its standby. In the end the standby follows again."""
    url = databases.create(pair.primary.url, template="ledgerq")
    pair.primary.demand("*")
    yield url
    if not databases.rows(pair.standbys[0].url, "SELECT status FROM pg_stat_wal_receiver"):
        pair.standbys[0].follow(pair.primary)
    pair.primary.demand("")
    databases.drop(pair.primary.url, url)


@contextmanager
def _standby_away(pair: Replicated) -> Iterator[None]:
    [standby] = pair.standbys
    standby.follow(None)
    yield
    standby.follow(pair.primary)


def _begin(work: Callable[[], Any]) -> Future[Any]:
    done: Future[Any] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done


def _waits(url: str) -> int:
    """Wait until somebody waits for the standby; returns the server process."""
    return int(str(wait.until(lambda: databases.rows(url, _WAITING), what="a COMMIT that waits")[0][0]))


@pytest.mark.parametrize("how", ["pg_cancel_backend", "pg_terminate_backend"])
def test_a_wait_for_a_standby_that_is_given_up_is_an_unknown_outcome_and_who_asks_about_it_waits(
    pair: Replicated, ledger: str, how: str
):
    pool = Database(ledger, application_name="test-waiting")

    def write() -> None:
        with pool.transaction() as cursor:
            cursor.execute("INSERT INTO queue (name) VALUES ('q')")

    def look() -> int:
        with pool.transaction() as cursor:
            cursor.execute("SELECT FROM queue WHERE name = 'q'")
            return cursor.rowcount

    with _standby_away(pair):
        written = _begin(write)
        databases.rows(ledger, f"SELECT {how}(%s)", (_waits(ledger),))
        with pytest.raises(OutcomeUnknown):
            written.result(30)
        looked = _begin(look)
        _waits(ledger)
    assert looked.result(30) == 1
    pool.close()


def test_a_statement_whose_wait_was_given_up_is_to_be_repeated(pair: Replicated, ledger: str):
    pool = Database(ledger, application_name="test-waiting")
    with _standby_away(pair):
        written = _begin(lambda: pool.fetch(Statement("INSERT INTO queue (name) VALUES ('q')", {}), writes=True))
        databases.rows(ledger, "SELECT pg_cancel_backend(%s)", (_waits(ledger),))
        with pytest.raises(LedgerUnavailable):
            written.result(30)
        again = _begin(lambda: pool.fetch(Statement("DELETE FROM queue WHERE name = 'p'", {}), writes=True))
        _waits(ledger)
    again.result(30)
    pool.close()


def test_an_operator_who_wants_no_warnings_changes_nothing(pair: Replicated, ledger: str):
    databases.set_for_all(ledger, client_min_messages="error")
    pool = Database(ledger, application_name="test-waiting")

    def write() -> None:
        with pool.transaction() as cursor:
            cursor.execute("INSERT INTO queue (name) VALUES ('q')")

    with _standby_away(pair):
        written = _begin(write)
        databases.rows(ledger, "SELECT pg_cancel_backend(%s)", (_waits(ledger),))
        with pytest.raises(OutcomeUnknown):
            written.result(30)
    pool.close()


BODY = {"task_type": api_support.ANYTHING, "task_parameters": {}}
BATCH = {"tasks": [BODY, BODY]}


@pytest.mark.parametrize(("path", "body"), [("/tasks/submit", BODY), ("/tasks/submit/batch", BATCH)])
def test_a_submit_is_accepted_when_a_standby_has_it_however_often_its_wait_is_cancelled(
    pair: Replicated, ledger: str, redis_database: str, path: str, body: object
):
    api_support.register(ledger, *api_support.CATALOGUE)
    with api_support.serve(ledger, redis_database, ledger_timeout=30.0) as api:
        with _standby_away(pair):
            answer = _begin(lambda: api.post(path, body))
            databases.rows(ledger, "SELECT pg_cancel_backend(%s)", (_waits(ledger),))
            # The submit is sent again under the same ids, finds all tasks there, and waits nevertheless.
            databases.rows(ledger, "SELECT pg_cancel_backend(%s)", (_waits(ledger),))
            _waits(ledger)
            assert not answer.done()
        assert answer.result(30).status == 202
    name = ledger.rpartition("/")[2]
    pair.all_have_it()
    on_standby = databases.on_server(pair.standbys[0].url, name)
    assert databases.rows(on_standby, "SELECT count(*) FROM task") == databases.rows(
        ledger, "SELECT count(*) FROM task"
    )


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/tasks/submit", BODY, {"Idempotency-Key": "k"}),
        ("/tasks/submit/batch", BATCH, {"Idempotency-Key": "k"}),
        ("/tasks/submit", {**BODY, "unique_key": "u"}, {}),
    ],
)
def test_the_first_answer_again_is_given_when_a_standby_has_what_it_tells_of(
    pair: Replicated, ledger: str, redis_database: str, path: str, body: object, headers: dict[str, str]
):
    """The first process was told that the outcome cannot be known; another process asks again."""
    api_support.register(ledger, *api_support.CATALOGUE)
    with (
        api_support.serve(ledger, redis_database, ledger_timeout=30.0) as api,
        api_support.serve(ledger, redis_database, ledger_timeout=0.5) as first,
    ):
        with _standby_away(pair):
            told = _begin(lambda: first.post(path, body, headers=headers))
            databases.rows(ledger, "SELECT pg_cancel_backend(%s)", (_waits(ledger),))
            wait.until(lambda: databases.rows(ledger, "SELECT FROM task"), what="all can see it")
            assert told.result(30).status == 503
            answer = _begin(lambda: api.post(path, body, headers=headers))
            wait.until(lambda: len(databases.rows(ledger, _WAITING)) == 2, what="the second one waits, too")
            assert not answer.done()
        assert answer.result(30).status == 202


def test_a_cancel_that_finds_its_work_done_is_confirmed_when_a_standby_has_it(
    pair: Replicated, ledger: str, redis_database: str
):
    api_support.register(ledger, *api_support.CATALOGUE)
    with api_support.serve(ledger, redis_database, ledger_timeout=30.0) as api:
        task_id = api.submit(countdown=3600)
        with _standby_away(pair):
            answer = _begin(lambda: api.post(f"/tasks/{task_id}/cancel", {}))
            databases.rows(ledger, "SELECT pg_cancel_backend(%s)", (_waits(ledger),))
            _waits(ledger)
            assert not answer.done()
        assert answer.result(30).status == 202


def test_while_writes_wait_for_a_standby_ready_says_so_and_reads_are_answered(
    pair: Replicated, ledger: str, redis_database: str
):
    api_support.register(ledger, *api_support.CATALOGUE)
    with api_support.serve(ledger, redis_database, ledger_timeout=30.0) as api:
        task_id = api.submit()
        assert api.get("/readyz").json()["checks"]["ledger"]["status"] == "ok"
        with _standby_away(pair):
            answer = _begin(lambda: api.post("/tasks/submit", BODY))
            wait.until(lambda: api.get("/readyz").json()["status"] == "degraded", what="ready says it")
            found = api.get("/readyz")
            assert (found.status, found.json()["checks"]["ledger"]["status"]) == (200, "degraded")
            assert "writes wait" in found.json()["checks"]["ledger"]["detail"]
            assert api.status(task_id)["status"] == "PENDING"
            assert api.get("/tasks/").json()["total_count"] == 1
        assert answer.result(30).status == 202
        assert api.get("/readyz").json()["status"] == "ready"
