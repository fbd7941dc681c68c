"""What becomes of a transaction whose client says nothing any more."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import psycopg2
import pytest

from ledgerq_shared.database import Database, execute
from ledgerq_shared.errors import LedgerUnavailable, Unavailable
from ledgerq_shared.sql import Statement

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCK = Statement("SELECT FROM leader WHERE name = 'some' FOR UPDATE", {})


@pytest.fixture
def stranger(database: str) -> Iterator[psycopg2.extensions.connection]:
    """Somebody else's connection, to a database with a row to lock."""
    with contextlib.closing(psycopg2.connect(database)) as connection:
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO leader (name, holder, until) VALUES ('some', gen_random_uuid(), now())")
        connection.commit()
        yield connection


def test_the_locks_of_a_client_that_vanished_in_a_transaction_are_gone_before_its_lease_is_over(
    database: str, stranger: psycopg2.extensions.connection
):
    was_free = False
    with contextlib.ExitStack() as vanished:
        vanished.enter_context(pytest.raises(Unavailable))
        execute(vanished.enter_context(Database(database, application_name="test-vanished").transaction()), _LOCK)
        stranger.cursor().execute(f"SET lock_timeout = '10s'; {_LOCK.sql}")
        was_free = True
    assert was_free, "a refusal for the lock is Unavailable, too"


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
