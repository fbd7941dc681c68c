"""Each of PostgreSQL's errors has one of four consequences, whoever meets it: a row of the table, a test of each."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

from ledgerq_shared.errors import LedgerUnavailable, OutcomeUnknown
from ledgerq_shared.faults import Fault
from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.postgres.sqlstates import TABLE, fault_of
from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.submit import NewTask, submit_tasks
from tests.support import api as api_support
from tests.support import databases, ledger_checks, refusals, wait
from tests.support.api import ANYTHING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: One SQLSTATE for each row; for a class, the first one that the server lets a test raise.
CODES = [(row.code if len(row.code) == 5 else f"{row.code}001", row.fault) for row in TABLE]
#: Errors by name of a store that refuses for a while; each was once taken for the fault of the written data.
PASSING = ("40001", "40P01", "53100", "53200", "55006", "55P03", "57014", "58030", "58P01", "XX000", "XX002")
LASTING = ("08006", "25006", "57P01", "57P05")
ITEMS = ("22021", "22P02", "22P05", "23514", "54001", "P0001")
MISTAKES = ("42501", "42P01", "42703", "21000", "25001", "ZZ999")
EXAMPLES = [
    *((code, Fault.REPEAT) for code in PASSING),
    *((code, Fault.RECONNECT) for code in LASTING),
    *((code, Fault.REFUSE) for code in ITEMS),
    *((code, Fault.MISTAKE) for code in MISTAKES),
]


def raising(code: str) -> Statement[Any]:
    return Statement(f"DO $$ BEGIN RAISE EXCEPTION 'on purpose' USING ERRCODE = '{code}'; END $$", {})


@pytest.fixture
def pool(postgres_url: str) -> Iterator[Database]:
    with closing(Database(postgres_url, application_name="test", size=1)) as made:
        yield made


def session(pool: Database) -> int:
    return int(pool.fetch(Statement("SELECT pg_backend_pid()", {}))[0][0])


def test_no_row_of_the_table_is_there_twice_and_each_has_its_reason():
    assert len({row.code for row in TABLE}) == len(TABLE)
    assert all(row.reason for row in TABLE)


def in_transaction(pool: Database, statement: Statement[Any]) -> None:
    with pool.transaction() as cursor:
        execute(cursor, statement)


@pytest.mark.parametrize("run", [in_transaction, Database.fetch], ids=["transaction", "fetch"])
@pytest.mark.parametrize(("code", "fault"), [*CODES, *EXAMPLES])
def test_an_error_asks_for_what_the_table_says_and_a_state_that_stays_costs_the_connection(
    pool: Database, code: str, fault: Fault, run: Callable[[Database, Statement[Any]], object]
):
    before = session(pool)
    with pytest.raises((LedgerUnavailable, psycopg2.Error)) as caught:
        run(pool, raising(code))
    assert isinstance(caught.value, LedgerUnavailable) == (fault in {Fault.REPEAT, Fault.RECONNECT})
    assert getattr(caught.value, "is_busy", False) == (fault is Fault.REPEAT)
    assert fault_of(caught.value.__cause__ or caught.value) is fault
    assert (session(pool) == before) == (fault is not Fault.RECONNECT)


@pytest.mark.parametrize(
    ("code", "is_known"), [("40001", True), ("40P01", True), ("40003", False), ("57P01", False), ("58030", False)]
)
def test_a_commit_that_is_refused_is_known_not_to_be_one_only_where_postgresql_says_so(
    database: str, code: str, is_known: bool
):
    databases.execute(
        database,
        f"""CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
              RAISE EXCEPTION 'at commit' USING ERRCODE = '{code}'; END $$""",
    )
    databases.execute(
        database,
        "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON task DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    submit = submit_tasks([NewTask(new_task_id(), ANYTHING, "default", "{}")])
    with (
        closing(Database(database, application_name="test")) as pool,
        pytest.raises(LedgerUnavailable if is_known else OutcomeUnknown),
    ):
        in_transaction(pool, submit)
    assert databases.rows(database, "SELECT count(*) FROM task") == [(0,)]


@pytest.fixture
def api(database: str, redis_database: str) -> Iterator[api_support.Api]:
    api_support.register(database, *api_support.CATALOGUE)
    with api_support.serve(database, redis_database) as served:
        yield served


ONE = {"task_type": ANYTHING}
SUBMITS = {"/tasks/submit": ONE, "/tasks/submit/batch": {"tasks": [ONE, ONE]}}


@pytest.mark.parametrize(
    ("path", "code"),
    [
        *(("/tasks/submit", code) for code in (*PASSING, "25006")),
        *(("/tasks/submit/batch", code) for code in ("40P01", "55P03", "25006")),
    ],
)
def test_a_submit_that_is_refused_for_a_moment_is_accepted(api: api_support.Api, code: str, path: str):
    refusals.refuse(api.database_url, code, on="task", verb="INSERT", times=1)
    assert api.post(path, SUBMITS[path]).status == 202
    ledger_checks.assert_sound(api.database_url)


@pytest.mark.parametrize("path", SUBMITS)
@pytest.mark.parametrize(
    ("code", "status", "name"),
    [
        ("55P03", 503, "ledger_unavailable"),
        ("25006", 503, "ledger_unavailable"),
        ("23514", 422, "invalid_request"),
        ("42501", 500, "internal_error"),
    ],
)
def test_a_submit_that_is_refused_for_long_says_whose_fault_it_is(
    api: api_support.Api, code: str, status: int, name: str, path: str
):
    refusals.refuse(api.database_url, code, on="task", verb="INSERT", times=None)
    answer = api.post(path, SUBMITS[path])
    assert (answer.status, answer.json()["code"]) == (status, name)
    assert ("retry-after" in answer.headers) == (status == 503)
    refusals.allow(api.database_url)
    assert api.post(path, SUBMITS[path]).status == 202


@pytest.mark.parametrize("call", ["cancel", "retry"])
@pytest.mark.parametrize("code", ["40P01", "55P03", "25006"])
def test_a_change_that_is_refused_for_a_moment_is_made(api: api_support.Api, code: str, call: str):
    task_id = api.submit()
    if call == "retry":
        assert api.post(f"/tasks/{task_id}/cancel", {}).status == 202
    refusals.refuse(api.database_url, code, on="task", verb="UPDATE", times=1)
    assert api.post(f"/tasks/{task_id}/{call}", {}).status == 202
    ledger_checks.assert_sound(api.database_url)


def test_somebodys_lock_delays_a_submit_and_ends_none_whatever_lock_timeout_is_set(api: api_support.Api):
    databases.set_for_all(api.database_url, lock_timeout="10ms")
    other = psycopg2.connect(api.database_url)
    with closing(other), other.cursor() as cursor, ThreadPoolExecutor(1) as clients:
        cursor.execute("LOCK TABLE task IN ACCESS EXCLUSIVE MODE")
        answer = clients.submit(api.post, "/tasks/submit", ONE)
        # It waits, gives up, and waits again.
        begun = (
            "SELECT xact_start FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        wait.until(lambda: (found := databases.rows(api.database_url, begun)) and found)
        [first] = databases.rows(api.database_url, begun)
        wait.until(lambda: (found := databases.rows(api.database_url, begun)) and found != [first])
        other.rollback()
        assert answer.result().status == 202


@pytest.mark.parametrize("run", [in_transaction, Database.fetch], ids=["transaction", "fetch"])
def test_an_operators_settings_change_no_transaction(database: str, run: Callable[..., object]):
    databases.set_for_all(database, **databases.OPERATORS)
    seen = Statement(
        """
        SELECT current_setting('transaction_isolation'), current_setting('lock_timeout'), pg_sleep(0.3)::text,
               current_setting('client_encoding'), '2026-02-03 04:05:06+00'::timestamptz, decode('00ff', 'hex'), '你'
        """,
        {},
    )
    with closing(Database(database, application_name="test", lock_timeout=2.0)) as pool:
        if run is in_transaction:
            with pool.transaction() as cursor:
                [row] = execute(cursor, seen)
                cursor.execute("SHOW transaction_read_only")
                assert cursor.fetchone() == ("off",)
        else:
            [row] = pool.fetch(seen)
            pool.fetch(Statement("INSERT INTO queue (name) VALUES ('q')", {}), writes=True)
    assert row[:4] == ("read committed", "2s", "", "UTF8")
    assert row[4].astimezone(UTC) == datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert (bytes(row[5]), row[6]) == (b"\0\xff", "你")


def test_settings_that_a_transaction_made_are_gone_with_it(database: str):
    """The next client of the session, behind a pooler, has settings of its own."""
    ask = Statement("SELECT current_setting('lock_timeout'), current_setting('statement_timeout')", {})
    with closing(Database(database, application_name="test", size=1)) as pool:
        pool.fetch(ask)
        with pool.transaction() as cursor:
            execute(cursor, ask)
            connection = cursor.connection
        with connection.cursor() as cursor:
            cursor.execute("SELECT name FROM pg_settings WHERE source = 'session'")
            assert {name for (name,) in cursor.fetchall()} <= {"DateStyle", "client_encoding"}
        assert connection.notices == []
