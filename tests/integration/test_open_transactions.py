"""What becomes of a transaction whose client says nothing any more."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psycopg2
import pytest

from ledgerq_shared.errors import LedgerUnavailable
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.sql import Statement

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCK = Statement("SELECT FROM leader WHERE name = 'some' FOR UPDATE", {})
_HOLDS = """
import sys
from ledgerq_shared.postgres.database import Database
with Database(sys.argv[1], application_name="test-vanished").transaction() as cursor:
    cursor.execute(sys.argv[2])
    print("holds", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def stranger(database: str) -> Iterator[psycopg2.extensions.connection]:
    """Somebody else's connection, to a database with a row to lock."""
    with contextlib.closing(psycopg2.connect(database)) as connection:
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO leader (name, holder, until) VALUES ('some', gen_random_uuid(), now())")
        connection.commit()
        yield connection


@pytest.fixture
def vanished(database: str, stranger: psycopg2.extensions.connection) -> Iterator[None]:
    """A client that holds the lock, and vanished with its host: nobody there hangs up, and nobody goes on."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDS, database, _LOCK.sql], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as client:
        try:
            assert client.stdout
            assert client.stdout.readline() == b"holds\n"
            client.send_signal(signal.SIGSTOP)
            yield
        finally:
            client.kill()


@pytest.mark.usefixtures("vanished")
def test_the_locks_of_a_client_that_vanished_in_a_transaction_are_gone_before_its_lease_is_over(
    stranger: psycopg2.extensions.connection,
):
    with stranger.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = '10s'; {_LOCK.sql}")
        assert cursor.rowcount == 1


def test_a_statement_waits_for_a_lock_as_long_as_was_said_and_the_connection_is_good_afterwards(
    database: str, stranger: psycopg2.extensions.connection
):
    impatient = Database(database, application_name="test-impatient", lock_timeout=0.05)
    stranger.cursor().execute(_LOCK.sql)
    with pytest.raises(LedgerUnavailable), impatient.transaction() as cursor:
        execute(cursor, _LOCK)
    stranger.rollback()
    with impatient.transaction() as cursor:
        execute(cursor, _LOCK)
    impatient.close()
