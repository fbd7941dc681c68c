"""Busy statements are planned once where a session is ours alone, well for every size of a table; else they run as ever."""

from __future__ import annotations

import ast
import datetime as dt
import pkgutil
import uuid
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ledgerq_shared import statements
from ledgerq_shared.errors import LedgerUnavailable
from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.postgres.prepared import Session
from ledgerq_shared.statements import record
from ledgerq_shared.statements.cancel import find_cancel_requests
from ledgerq_shared.statements.claim import claim_tasks, has_ready
from ledgerq_shared.statements.dispatch import what_to_do
from ledgerq_shared.statements.idempotency import KeyedSubmit, find_keys, reserve_keys
from ledgerq_shared.statements.leader import take_leadership
from ledgerq_shared.statements.read_stream import read_news
from ledgerq_shared.statements.read_task import read_events, read_statuses
from ledgerq_shared.statements.recover import find_claims
from ledgerq_shared.statements.submit import NewTask, NewTaskOptions, submit_tasks
from ledgerq_shared.statements.workers import renew_lease
from ledgerq_shared.states import State
from tests.support.pgbouncer import PgBouncer, is_installed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ledgerq_shared.sql import Statement

ID = new_task_id()


def task(actor: str = "anonymous", **options: object) -> NewTask:
    return NewTask(new_task_id(), "demo.add", "default", "{}", actor=actor, options=NewTaskOptions(**options))  # type: ignore[arg-type]


def named() -> list[Statement[Any]]:
    """One of each statement that has a name."""
    return [
        claim_tasks(
            worker_id=uuid.uuid4(), slot=3, queue="default", limit=200, budget=0.05, cost_of_type={"demo.add": 0.001},
            unknown_cost=0.05, low_water={5: dt.datetime.now(dt.UTC)}, unknown_types=["demo.strange"],
        ),
        has_ready("default"),
        record.record_begun([record.Begun(str(ID), 1, 1, State.PENDING, 0.5)]),
        record.record_ended([record.Ended(str(ID), 1, 1, State.PENDING, State.SUCCESS, None, 0.1, '"ü"', None)]),
        record.record_progress([record.Progress(str(ID), 1, 1, 50, "half of it", 0.1)]),
        record.record_log([record.LogLine(str(ID), 1, 1, "{}", 0.1)]),
        submit_tasks([NewTask(ID, "demo.add", "default", '{"text": "100 %s"}')], are_new=True),
        submit_tasks([task(tags=["a"])]),
        submit_tasks([task("key:1", tags=["a"]), task("key:2")]),
        reserve_keys([KeyedSubmit("key", b"\0" * 32, ID)]),
        find_keys([KeyedSubmit("key", b"\0" * 32, ID)]),
        read_statuses([str(ID)]),
        read_events(str(ID), submitted_at=dt.datetime.now(dt.UTC), after=0, limit=10),
        read_news([str(ID)], [0], limit=10),
        renew_lease(worker_id=uuid.uuid4(), lease=10.0, stopping=False),
        find_cancel_requests(worker_id=uuid.uuid4()),
        find_claims(uuid.uuid4()),
        take_leadership(name="maintenance", holder=uuid.uuid4(), lease=4.0),
        what_to_do(ahead=0.5),
    ]  # fmt: skip


@pytest.fixture
def keeping(database: str) -> Iterator[Database]:
    with closing(Database(database, application_name="test", size=1, keeps_statements=True)) as made:
        yield made


def without_clock(rows: list[tuple[object, ...]]) -> list[list[object]]:
    """Without moments in seconds: the second time is later."""
    return [[value for value in row if not isinstance(value, float)] for row in rows]


def kept(database: Database) -> set[str]:
    """What the session keeps, by PostgreSQL's own account."""
    with database.transaction() as cursor:
        cursor.execute("SELECT name FROM pg_prepared_statements")
        return {row[0] for row in cursor.fetchall()}


def names_in_the_code() -> set[str]:
    found = set()
    for module in pkgutil.iter_modules(statements.__path__):
        tree = ast.parse((Path(statements.__path__[0]) / f"{module.name}.py").read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Statement":
                assert {keyword.arg for keyword in node.keywords} <= {"row"}
                found.update(ast.literal_eval(argument) for argument in node.args[2:3])
    return found


def test_every_named_statement_is_tried_here_and_no_two_share_a_name():
    names = [statement.name for statement in named()]
    assert sorted(map(str, names)) == sorted(names_in_the_code())


@pytest.mark.parametrize("statement", named(), ids=lambda statement: statement.name)
def test_a_named_statement_answers_the_same_prepared_as_planned_each_time(keeping: Database, statement: Statement[Any]):
    for _ in range(2):
        with keeping.transaction() as cursor:
            planned = execute(cursor, statement._replace(name=None))
            cursor.execute("ROLLBACK; BEGIN")
            assert without_clock(execute(cursor, statement)) == without_clock(planned)
            cursor.execute("ROLLBACK; BEGIN")
    assert kept(keeping) == {statement.name}


@pytest.mark.parametrize("statement", named(), ids=lambda statement: statement.name)
def test_a_plan_made_while_all_tables_are_empty_is_one_for_millions_of_rows(
    keeping: Database, statement: Statement[Any]
):
    with keeping.transaction() as cursor:
        execute(cursor, statement)
        connection = cursor.connection
        assert isinstance(connection, Session)
        assert connection.kept
        cursor.execute(f"EXPLAIN {connection.kept[str(statement.name)]}", statement.params)
        plan = "\n".join(row[0] for row in cursor.fetchall())
        cursor.execute("ROLLBACK; BEGIN")
    # (The queues and workers that exist are few; all of these tables grow with the tasks.)
    for table in ("task", "ready", "held", "claim", "task_event", "idempotency"):
        assert f"Seq Scan on {table}" not in plan, plan


def test_its_plan_is_made_once(keeping: Database):
    with keeping.transaction() as cursor:
        if cursor.connection.server_version < 140_000:
            pytest.skip("PostgreSQL counts the use of plans since 14")
        for _ in range(3):
            execute(cursor, has_ready("default"))
        cursor.execute("SELECT generic_plans, custom_plans FROM pg_prepared_statements")
        assert cursor.fetchall() == [(3, 0)]


def test_a_rollback_takes_no_statement_away(keeping: Database):
    statement = has_ready("default")
    with keeping.transaction() as cursor:
        execute(cursor, statement)
        cursor.execute("ROLLBACK; BEGIN")
    with keeping.transaction() as cursor:
        assert execute(cursor, statement) == [(False,)]
    assert kept(keeping) == {"has_ready"}


def test_a_single_read_is_kept_as_well(keeping: Database):
    assert keeping.fetch(has_ready("default")) == keeping.fetch(has_ready("default")) == [(False,)]
    assert kept(keeping) == {"has_ready"}


def test_who_does_not_ask_for_it_keeps_nothing_and_plans_as_ever(database: str):
    with closing(Database(database, application_name="test", size=1)) as made:
        made.fetch(has_ready("default"))
        assert kept(made) == set()
        with made.transaction() as cursor:
            cursor.execute("SHOW enable_seqscan")
            assert cursor.fetchone() == ("on",)


def test_a_session_that_turns_out_to_be_shared_costs_one_error_that_says_try_again(keeping: Database):
    """A pooler that hides itself better than PgBouncer: what was prepared is gone."""
    statement = has_ready("default")
    keeping.fetch(statement)
    with keeping.transaction() as cursor:
        cursor.execute("DEALLOCATE ALL")
    with pytest.raises(LedgerUnavailable):
        keeping.fetch(statement)
    assert keeping.fetch(statement) == [(False,)]
    assert kept(keeping) == set()


def test_after_a_plans_columns_have_changed_the_statement_runs_on_another_connection(keeping: Database):
    statement = read_statuses([str(ID)])
    keeping.fetch(statement)
    with keeping.transaction() as cursor:
        cursor.execute("ALTER TABLE task ALTER COLUMN attempt TYPE bigint")
    with pytest.raises(LedgerUnavailable):
        keeping.fetch(statement)
    assert keeping.fetch(statement) == []


@pytest.mark.skipif(not is_installed(), reason="no PgBouncer on this machine (Debian: apt-get install pgbouncer)")
def test_behind_pgbouncer_nothing_is_kept_and_nothing_left_in_its_sessions(workspace: Path, database: str):
    bouncer = PgBouncer(workspace, database)
    bouncer.start()
    try:
        with closing(Database(bouncer.url, application_name="test", keeps_statements=True)) as made:
            for _ in range(3):
                for statement in named():
                    with made.transaction() as cursor:
                        execute(cursor, statement)
                        cursor.execute("ROLLBACK; BEGIN")
            assert kept(made) == set()
        assert bouncer.left_in_sessions()[1] == []
    finally:
        bouncer.stop()
