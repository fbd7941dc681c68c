"""`ledgerq-migrate`: upgrade, check, wait."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg2
import pytest
from psycopg2 import errors as pg

from ledgerq_shared import migrate
from tests.support import databases
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]

EVENT_TABLES = """
SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'task_event'::regclass ORDER BY 1
"""


def start(database_url: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ledgerq_shared.migrate", *arguments],
        env={
            **os.environ, "DATABASE_URL": database_url, "REDIS_URL": "redis://127.0.0.1:1/0", **environment,
        },
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=120)
    return process.returncode, said.strip()


def run(database_url: str, *arguments: str, **environment: str) -> tuple[int, str]:
    return finish(start(database_url, *arguments, **environment))


def test_upgrade_brings_an_empty_database_to_the_head_and_says_from_where(empty_database: str):
    assert run(empty_database, "upgrade") == (
        0, f"ledger is at revision {migrate.head()} (was empty)",
    )  # fmt: skip
    assert databases.rows(empty_database, "SELECT version_num FROM alembic_version") == [(migrate.head(),)]


def test_a_second_upgrade_changes_nothing(database: str):
    assert run(database, "upgrade") == (0, f"ledger is at revision {migrate.head()}")


def test_several_upgrades_at_once_all_succeed_and_the_tables_are_made_once(empty_database: str):
    started = [start(empty_database, "upgrade") for _ in range(3)]
    ended = [finish(process) for process in started]
    assert [code for code, _ in ended] == [0, 0, 0], ended
    assert databases.rows(empty_database, "SELECT version_num FROM alembic_version") == [(migrate.head(),)]


def test_a_failed_upgrade_leaves_nothing_behind(empty_database: str):
    databases.execute(empty_database, "CREATE TABLE outbox (id integer)")
    code, said = run(empty_database, "upgrade")
    assert code != 0
    assert "outbox" in said
    assert databases.rows(empty_database, "SELECT to_regclass('task'), to_regclass('alembic_version')") == [
        (None, None)
    ]


def test_check_says_yes_for_a_migrated_database(database: str):
    assert run(database, "check") == (0, f"ledger is at revision {migrate.head()}")


def test_check_says_no_for_an_empty_database_and_what_to_do(empty_database: str):
    code, said = run(empty_database, "check")
    assert code == 1
    assert said == (f"ledger is at revision none, this release needs {migrate.head()}: run `ledgerq-migrate upgrade`")


def test_check_says_no_for_an_older_revision(database: str):
    databases.execute(database, "UPDATE alembic_version SET version_num = '0001'")
    if migrate.head() == "0001":
        pytest.skip("there is no older revision yet")
    code, said = run(database, "check")
    assert code == 1
    assert "ledger is at revision 0001" in said


def test_check_accepts_a_revision_that_a_later_release_has_made(database: str):
    databases.execute(database, "UPDATE alembic_version SET version_num = '9999'")
    assert run(database, "check") == (0, "ledger is at revision 9999")


def test_wait_ends_as_soon_as_somebody_else_has_migrated(empty_database: str):
    waiting = start(empty_database, "wait")
    try:
        assert run(empty_database, "upgrade")[0] == 0
        assert finish(waiting) == (0, f"ledger is at revision {migrate.head()}")
    finally:
        waiting.kill()


def test_wait_survives_a_server_that_is_not_there_yet_and_gives_up_at_its_timeout():
    nobody = f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"
    assert run(nobody, "wait", "--timeout", "0.1") == (
        1, f"ledger has not reached revision {migrate.head()} within 0.1 s",
    )  # fmt: skip


@pytest.mark.parametrize("command", ["upgrade", "check"])
def test_a_server_that_is_away_is_one_line_and_exit_2(command: str):
    code, said = run(f"postgresql://nobody@127.0.0.1:{free_port()}/nothing", command)
    assert code == 2
    assert said.startswith("ledgerq-migrate: PostgreSQL cannot be reached: ")
    assert "\n" not in said


@pytest.mark.parametrize("command", ["upgrade", "check", "wait"])
def test_a_bad_url_is_one_line_and_exit_2(command: str):
    code, said = run("mysql://somewhere/else", command)
    assert code == 2
    assert said == (
        "ledgerq-migrate: DATABASE_URL: is not a PostgreSQL URL: it begins with 'mysql', expected 'postgresql://'"
    )


def test_nothing_in_the_sources_makes_tables_without_a_migration():
    sources = [path for folder in ("shared", "services") for path in (ROOT / folder).rglob("src/**/*.py")]
    assert sources
    offenders = [path for path in sources if re.search(r"\bcreate_all\b", path.read_text(encoding="utf-8"))]
    assert offenders == []


def test_the_migrations_are_one_line_of_revisions():
    versions = sorted(Path(migrate.__file__).parent.glob("migrations/versions/*.py"))
    assert [path.name[:4] for path in versions] == [f"{number + 1:04}" for number in range(len(versions))]


def test_a_week_of_event_partitions_and_a_default_one_are_there(database: str):
    names = {name for (name,) in databases.rows(database, EVENT_TABLES)}
    days = databases.rows(
        database,
        "SELECT 'task_event_' || to_char((now() AT TIME ZONE 'UTC')::date + n, 'YYYYMMDD') "
        "FROM generate_series(0, 6) AS n",
    )
    assert {day for (day,) in days} | {"task_event_default"} <= names


def test_a_partition_is_made_once(database: str):
    make = "SELECT ledgerq_make_event_partition('2031-05-06')"
    connection = psycopg2.connect(database)
    connection.autocommit = True
    with connection.cursor() as cursor:
        made = []
        for _ in range(2):
            cursor.execute(make)
            made.append(cursor.fetchone())
    connection.close()
    assert made == [(True,), (False,)]
    assert ("task_event_20310506",) in databases.rows(database, EVENT_TABLES)


@pytest.mark.parametrize(
    "change",
    ["UPDATE {} SET actor = 'somebody else'", "DELETE FROM {}", "TRUNCATE {}"],
    ids=["update", "delete", "truncate"],
)
def test_events_can_only_be_added_in_every_partition(database: str, change: str):
    names = [name for (name,) in databases.rows(database, EVENT_TABLES)]
    connection = psycopg2.connect(database)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO task_event (task_id, seq, at, kind, actor)
            SELECT md5(d::text)::uuid, 1, d, 'submitted', 'test'
            FROM generate_series(now() - interval '3 days', now() + interval '7 days', interval '1 day') AS d
            """
        )
        connection.commit()
        for name in ["task_event", *names]:
            cursor.execute(f"SELECT count(*) FROM {name}")
            assert cursor.fetchone() != (0,), f"{name} is empty: the test would prove nothing"
            with pytest.raises(pg.InsufficientPrivilege, match="append-only"):
                cursor.execute(change.format(name))
            connection.rollback()
    connection.close()


def test_a_partition_made_later_is_protected_too(database: str):
    databases.execute(database, "SELECT ledgerq_make_event_partition('2031-05-06')")
    databases.execute(
        database,
        "INSERT INTO task_event (task_id, seq, at, kind, actor) "
        "VALUES ('00000000-0000-0000-0000-000000000001', 1, '2031-05-06 12:00Z', 'submitted', 'test')",
    )
    with pytest.raises(pg.InsufficientPrivilege, match="append-only"):
        databases.execute(database, "DELETE FROM task_event_20310506")
