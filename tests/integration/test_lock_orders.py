"""Whoever locks several keys does so in one order: two who want the same keys wait for one another, and neither for ever.

A stranger holds the key that comes last in the order, and the statement names it first. When the statement waits for
that key, it must already have the keys that come before it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.statements.record import Ended, record_ended
from ledgerq_shared.statements.submit import NewTask, NewTaskOptions
from ledgerq_shared.statements.unique import submit_unique_tasks
from ledgerq_shared.states import State
from tests.support import databases, wait
from tests.support.lives import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ledgerq_shared.sql import Statement

WAITER = "test-waiter"
_FIRST, _LAST = "a", "z"


def _unique(key: str) -> NewTask:
    return NewTask(new_task_id(), "demo.anything", "default", "{}", options=NewTaskOptions(unique_key=key))


@pytest.fixture
def waiter(database: str) -> Iterator[Database]:
    pool = Database(database, application_name=WAITER, lock_timeout=60.0)
    yield pool
    pool.close()


def _locks_the_first_while_it_waits_for_the_last(
    database: str, waiter: Database, statement: Statement[Any], *, last: str, first: str
) -> bool:
    """Whether ``first`` has to wait while ``statement`` waits for the transaction that runs ``last``."""

    def run() -> list[tuple[Any, ...]]:
        with waiter.transaction() as cursor:
            return execute(cursor, statement)

    waits = (
        "SELECT FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock' "
        "AND datname = current_database()"
    )
    with (
        ThreadPoolExecutor(1) as beside,
        closing(psycopg2.connect(database)) as stranger,
        closing(psycopg2.connect(database)) as probe,
    ):
        stranger.cursor().execute(last)
        waiting = beside.submit(run)
        try:
            wait.until(lambda: databases.rows(database, waits, (WAITER,)), what="it waits for the stranger")
            probe.cursor().execute("SET lock_timeout = '300ms'")
            try:
                probe.cursor().execute(first)
            except psycopg2.errors.LockNotAvailable:
                return True
            else:
                return False
        finally:
            probe.rollback()
            stranger.rollback()
            waiting.result(30)


def test_unique_keys_are_freed_in_one_order_whatever_order_their_tasks_end_in(database: str, waiter: Database):
    with waiter.transaction() as cursor:
        for key in (_LAST, _FIRST):
            execute(cursor, submit_unique_tasks([_unique(key)]))
    with Worker(database) as worker:
        tasks = worker.claim()
        ends = [
            Ended(str(task.id), task.claim_no, 1, State.PENDING, State.SUCCESS, 0.01, 0.0, None, None)
            for task in tasks.values()
        ]
        locked = "SELECT FROM unique_key WHERE key = '{}' FOR UPDATE"
        assert _locks_the_first_while_it_waits_for_the_last(
            database, waiter, record_ended(ends), last=locked.format(_LAST), first=locked.format(_FIRST)
        )
    assert databases.rows(database, "SELECT count(*) FROM unique_key") == [(0,)]
