"""What is sent to begin and to end a transaction, and when nothing is."""

from __future__ import annotations

from contextlib import closing

from structlog.testing import capture_logs

from ledgerq_shared.postgres.database import Database, confirm, execute
from ledgerq_shared.sql import Statement

_ONE = Statement("SELECT 1", {})


def _sent(database: str, *, confirms: bool, executes: bool) -> list[str]:
    with closing(Database(database, application_name="test", debug=True)) as ledger:
        ledger.fetch(_ONE)  # so that it is connected
        with capture_logs() as lines:
            with ledger.transaction() as cursor:
                if confirms:
                    confirm(cursor)
                if executes:
                    assert execute(cursor, _ONE) == [(1,)]
            ledger.fetch(_ONE)  # over the same connection, which is in no transaction
    return [line["sql"] for line in lines if line["event"] == "database.statement"][:-1]


def test_a_transaction_in_which_nothing_is_executed_costs_nothing(database: str):
    assert _sent(database, confirms=False, executes=False) == []


def test_a_transaction_costs_one_round_trip_more_than_its_statements(database: str):
    [first, last] = _sent(database, confirms=False, executes=True)
    assert first.startswith("BEGIN ")
    assert first.endswith("SELECT 1")
    assert last == "COMMIT"


def test_a_transaction_that_confirms_is_committed_even_if_nothing_is_executed(database: str):
    [only] = _sent(database, confirms=True, executes=False)
    assert only.startswith("BEGIN ")
    assert "pg_logical_emit_message" in only
    assert only.endswith("COMMIT")
    [_, last] = _sent(database, confirms=True, executes=True)
    assert "pg_logical_emit_message" in last
    assert last.endswith("COMMIT")
