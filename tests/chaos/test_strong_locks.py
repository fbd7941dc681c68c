"""Strangers hold strong locks on our tables, one after the other, while tasks are claimed and recorded."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import psycopg2
import pytest

from tests.support import databases, wait

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.conftest import Scale
    from tests.chaos.support.plant import Plant

pytestmark = pytest.mark.chaos

#: Without its row a node can renew no lease, and nobody can declare it dead either: this one is held for less than a lease.
_LEASES = "worker"
_ROWS = tuple(f"SELECT FROM {table} FOR UPDATE" for table in ("task", "ready", "claim", "queue"))


@contextlib.contextmanager
def _locked(plant: Plant, sql: str) -> Iterator[None]:
    connection = psycopg2.connect(plant.database_url)
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            yield
    finally:
        connection.close()


def _tables(plant: Plant) -> list[str]:
    sql = """SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
             AND NOT relispartition AND relname <> 'alembic_version' ORDER BY relname"""
    return [str(name) for (name,) in databases.rows(plant.database_url, sql)]


def test_a_strangers_lock_on_any_table_loses_doubles_and_charges_nothing(plant: Plant, scale: Scale):
    plant.maintenance()
    plant.worker(slots=2)
    tables = _tables(plant)
    assert {"task", "ready", "claim", "task_event", "task_count"} <= set(tables)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    met: set[str] = set()
    for lock in (*(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE" for table in tables), *_ROWS):
        ids = plant.submit_all("slow", [{"seconds": 0.01}] * 40)
        plant.begun(ids[0])
        held = 5.0 if scale.is_long and f" {_LEASES} " not in lock else 0.6
        with _locked(plant, lock):
            until = time.monotonic() + held
            while time.monotonic() < until:
                if databases.rows(plant.database_url, waiting) != [(0,)]:
                    met.add(lock)
                time.sleep(0.05)
        wait.until(lambda: plant.unfinished() == 0, 30, what=lambda lock=lock: f"after {lock}: {plant.unfinished()}")
    for table in ("task", "claim", "ready", "task_event"):
        assert f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE" in met, "somebody had to wait"
    assert plant.scalar("SELECT count(*) FROM task WHERE worker_deaths > 0 OR attempt <> 1 OR state <> 'SUCCESS'") == 0
    assert plant.workers() == 1, "nobody was declared dead"
    assert {len(runs) for runs in plant.journal.runs().values()} == {1}
    plant.assert_sound()
