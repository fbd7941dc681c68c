"""Migrations beside everybody's work: whoever reads or writes, nobody waits for a migration that waits."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import psycopg2
import pytest
from alembic import command

from ledgerq_shared import migrate
from ledgerq_shared.migrations import running
from tests.support import databases, wait

if TYPE_CHECKING:
    from collections.abc import Iterator

_INSERT = """
INSERT INTO task (id, task_type, queue, submitted_at, parameters) VALUES (gen_random_uuid(), 't', 'q', now(), '{}')
"""
_WAITS = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'ledgerq-migrate' AND wait_event_type = 'Lock'"


@pytest.fixture
def old_database(empty_database: str) -> Iterator[str]:
    """As the first release made it, with tasks of then."""
    engine = running._engine(empty_database)
    config = running._config()
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.commit()
    engine.dispose()
    databases.execute(
        empty_database,
        "INSERT INTO task (id, task_type, queue, state, submitted_at, completed_at, tags, parameters)"
        " SELECT gen_random_uuid(), 'demo.anything', 'default', 'SUCCESS', now(), now(), '{a,b,a}', '{}'"
        " FROM generate_series(1, 25000)",
    )
    return empty_database


def test_a_migration_that_waits_for_a_reader_keeps_no_writer_waiting_and_goes_on_when_it_has_gone(old_database: str):
    said: list[str] = []
    failed: list[BaseException] = []

    def upgrade() -> None:
        try:
            migrate.upgrade(old_database, said.append)
        except BaseException as error:
            failed.append(error)

    with psycopg2.connect(old_database) as reader, reader.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM task")
        thread = threading.Thread(target=upgrade)
        thread.start()
        for _ in range(3):
            wait.until(lambda: databases.rows(old_database, _WAITS), 30, what="the migration waits")
            databases.execute(old_database, _INSERT)
        assert thread.is_alive(), failed
        reader.rollback()
    reader.close()
    thread.join(60)
    assert not failed
    assert databases.rows(old_database, "SELECT version_num FROM alembic_version") == [(migrate.head(),)]
    assert databases.rows(old_database, "SELECT count(*) FROM task_success") == [(25000,)]
    assert databases.rows(old_database, "SELECT tag, count(*) FROM task_tag GROUP BY 1 ORDER BY 1") == [
        ("a", 25000), ("b", 25000),
    ]  # fmt: skip


def test_what_is_built_and_filled_waits_beside_writers_and_begins_again_where_it_was_interrupted(old_database: str):
    """A migration of several transactions was killed in the middle."""
    engine = running._engine(old_database)
    config = running._config()
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0006")
        connection.commit()
    engine.dispose()
    databases.execute(old_database, "CREATE TABLE task_success (task_id uuid PRIMARY KEY)")
    databases.execute(old_database, "INSERT INTO task_success SELECT id FROM task ORDER BY id LIMIT 100")
    with psycopg2.connect(old_database) as writer, writer.cursor() as cursor:
        cursor.execute(_INSERT)  # and is not committed
        thread = threading.Thread(target=migrate.upgrade, args=[old_database])
        thread.start()
        wait.until(lambda: databases.rows(old_database, _WAITS), 30, what="the migration waits for the writer")
        databases.execute(old_database, _INSERT)
        writer.commit()
    writer.close()
    thread.join(60)
    assert databases.rows(old_database, "SELECT version_num FROM alembic_version") == [(migrate.head(),)]
    assert databases.rows(old_database, "SELECT count(*) FROM task_success") == [(25000,)]
