"""Partitions of the event log are made far ahead, and nobody waits for it, whoever reads the log and whatever it holds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

from ledgerq_shared.errors import LedgerUnavailable
from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.statements import partitions
from ledgerq_shared.statements.submit import NewTask, submit_tasks
from ledgerq_worker.maintenance.housekeeping import MakePartitions
from ledgerq_worker.maintenance.loop import Round
from tests.support import databases

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from ledgerq_shared.postgres.database import Cursor
    from ledgerq_shared.sql import Statement

DAILY = "SELECT relname FROM pg_class WHERE relname ~ '^task_event_2' AND relkind = 'r'"
MISSING = """
SELECT n FROM generate_series(%s, 60) AS n WHERE NOT EXISTS (
  SELECT FROM ledgerq_event_ranges() r
  WHERE r.since <= now() + n * interval '1 day' AND r.until > now() + n * interval '1 day')
"""
UNPROTECTED = """
SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'task_event'::regclass AND 2 <> (
  SELECT count(*) FROM pg_trigger WHERE tgrelid = inhrelid AND tgname IN ('tr_append_only', 'tr_no_truncate'))
"""


@pytest.fixture
def ledger(database: str) -> Iterator[Database]:
    pool = Database(database, application_name="test")
    yield pool
    pool.close()


def _without_partitions(database: str) -> None:
    """As after two months without maintenance."""
    for (name,) in databases.rows(database, DAILY):
        databases.execute(database, f"DROP TABLE {name}")


def _submit(ledger: Database, count: int = 1) -> None:
    with ledger.transaction() as cursor:
        execute(cursor, submit_tasks([NewTask(new_task_id(), "demo.anything", "default", "{}") for _ in range(count)]))


def _old_events(database: str, count: int, ago: str) -> None:
    databases.execute(
        database,
        "INSERT INTO task_event (task_id, seq, at, kind, actor)"
        f" SELECT gen_random_uuid(), 1, now() - interval '{ago}', 'submitted', 'api' FROM generate_series(1, {count})",
    )


def _make(ledger: Database) -> MakePartitions:
    duty = MakePartitions(ledger)
    Round(duty).run_if_due(time.monotonic())
    return duty


def test_partitions_are_made_two_months_ahead_and_each_refuses_changes(ledger: Database, database: str):
    _make(ledger)
    assert databases.rows(database, MISSING, (0,)) == []
    assert databases.rows(database, UNPROTECTED) == []


def test_beside_a_reader_of_the_log_submits_go_on_and_partitions_are_made_when_it_has_gone(
    ledger: Database, database: str
):
    _make(ledger)
    [(last,)] = databases.rows(database, f"{DAILY} ORDER BY 1 DESC LIMIT 1")
    databases.execute(database, f"DROP TABLE {last}")
    with psycopg2.connect(database) as dump, dump.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM task_event")  # what pg_dump does to every table, until it ends
        assert _make(ledger).every == 60.0, "it gave way, and comes back soon"
        _submit(ledger)
        assert databases.rows(database, "SELECT to_regclass(%s)", (last,)) == [(None,)]
    dump.close()
    assert _make(ledger).every == 3600.0
    assert databases.rows(database, "SELECT to_regclass(%s)::text", (last,)) == [(last,)]


def test_after_months_without_maintenance_only_today_stays_in_the_default_partition(ledger: Database, database: str):
    _without_partitions(database)
    _submit(ledger, 100)
    _make(ledger)
    assert databases.rows(database, MISSING, (0,)) == [(0,)]
    _submit(ledger, 100)
    assert databases.rows(database, "SELECT count(*) FROM task_event") == [(200,)]


def test_a_large_default_partition_becomes_the_one_of_its_days_and_no_row_is_read_under_a_strong_lock(
    ledger: Database, database: str, monkeypatch: pytest.MonkeyPatch
):
    _without_partitions(database)
    _old_events(database, 5000, "2 days")
    _submit(ledger)
    monkeypatch.setattr(partitions, "_SMALL", 100_000)
    read: list[str] = []
    replace = partitions.replace_event_default

    def talkative(seal: str) -> Statement[Any]:
        """PostgreSQL tells at this level which rows it has not read, because a rule says enough of them."""
        statement = replace(seal)
        return statement._replace(sql=f"SET LOCAL client_min_messages = debug1; {statement.sql}")

    monkeypatch.setattr("ledgerq_shared.postgres.partitions.replace_event_default", talkative)
    monkeypatch.setattr(
        "ledgerq_shared.postgres.partitions.execute", lambda cursor, statement: _noting(cursor, statement, read)
    )
    _make(ledger)
    assert [notice for notice in read if "task_event_until" in notice and "implied by existing constraints" in notice]
    assert databases.rows(database, MISSING, (0,)) == []
    assert databases.rows(database, "SELECT count(*) FROM task_event_default") == [(0,)]
    assert databases.rows(database, "SELECT count(*) FROM task_event") == [(5001,)]
    assert databases.rows(database, UNPROTECTED) == []
    _submit(ledger)
    with pytest.raises(psycopg2.errors.InsufficientPrivilege, match="append-only"):
        databases.execute(database, "DELETE FROM task_event")


def test_whoever_comes_between_the_steps_waits_for_nothing_and_they_go_on_afterwards(
    ledger: Database, database: str, monkeypatch: pytest.MonkeyPatch
):
    _without_partitions(database)
    _old_events(database, 2000, "2 days")
    monkeypatch.setattr(partitions, "_SMALL", 100_000)

    def state() -> tuple[str, bool, date, date]:
        [found] = ledger.fetch(partitions.default_event_partition())
        return found  # type: ignore[return-value]

    def beside_a_reader(statement: Statement[Any]) -> None:
        """It gives way, and then it is done."""
        with psycopg2.connect(database) as dump, dump.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM task_event")
            with pytest.raises(LedgerUnavailable):
                ledger.fetch(statement)
            _submit(ledger)
        dump.close()
        ledger.fetch(statement)

    _, _, since, until = state()
    beside_a_reader(partitions.seal_event_default(since, until))
    seal, is_checked, _, _ = state()
    assert not is_checked
    with psycopg2.connect(database) as writer, writer.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM task_event")
        cursor.execute("INSERT INTO task_event (task_id, seq, at, kind, actor)"
                       " VALUES (gen_random_uuid(), 1, now(), 'submitted', 'api')")  # fmt: skip
        ledger.fetch(partitions.check_event_default(seal))  # all rows are read beside who reads and writes
    writer.close()
    beside_a_reader(partitions.replace_event_default(seal))
    assert ledger.fetch(partitions.default_event_partition()) == []
    _make(ledger)
    assert databases.rows(database, MISSING, (0,)) == []


def _noting(cursor: Cursor, statement: Statement[Any], notices: list[str]) -> None:
    execute(cursor, statement)
    notices += cursor.connection.notices
