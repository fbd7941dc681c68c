"""Keys of both kinds under concurrency, on databases that sort text in different ways: one order of locks, nobody's task
ended by who may not, no key of nobody's, a bounded number of statements.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2
import pytest

from ledgerq_api.tasks import idempotency
from ledgerq_shared.embedded import EmbeddedPostgres
from ledgerq_shared.errors import DuplicateTask
from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.statements.idempotency import KeyedSubmit, find_keys, reserve_keys
from ledgerq_shared.statements.pieces import FREED
from ledgerq_shared.statements.resubmit import resubmit
from ledgerq_shared.statements.submit import NewTask, NewTaskOptions
from ledgerq_shared.statements.unique import retake_key
from ledgerq_shared.states import State
from ledgerq_shared.tasks import submitting
from ledgerq_shared.tasks.submitting import Existing, submit
from tests.support import api as api_support
from tests.support import databases, ledger_checks, wait
from tests.support.api import ANYTHING
from tests.support.lives import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_WITH_ICU = Path("/usr/lib/postgresql/15")


@pytest.fixture(params=["", "icu"])
def sorted_database(
    request: pytest.FixtureRequest, postgres_url: str, run_folder: Path, workspace: Path
) -> Iterator[str]:
    """Sorts as this run's databases do; or as ICU does, where "a" is before "B"."""
    if not request.param:
        url = databases.create(postgres_url, template=databases.migrated_template(run_folder, postgres_url))
        yield url
        databases.drop(postgres_url, url)
    elif not (_WITH_ICU / "bin" / "postgres").exists():
        pytest.skip(f"no PostgreSQL with ICU at {_WITH_ICU} (Debian: postgresql-15)")
    else:  # the embedded one is built without
        server = EmbeddedPostgres(workspace / "icu", programs=_WITH_ICU)
        url = databases.create(server.start(), collation=request.param)
        databases.migrate(url)
        yield url
        server.stop()


@pytest.fixture
def pool(database: str) -> Iterator[Database]:
    with closing(Database(database, application_name="one")) as made:
        yield made


def keyed(key: str, policy: str | None = None, celery_id: str | None = None) -> NewTask:
    options = NewTaskOptions(unique_key=key, unique_policy=policy, celery_id=celery_id, celery=celery_id and "{}")
    return NewTask(new_task_id(), ANYTHING, "default", "{}", options=options)


def submitted(pool: Database, tasks: Sequence[NewTask]) -> submitting.Submitted:
    with pool.transaction() as cursor:
        return submit(cursor, tasks)


def take_unique(cursor: psycopg2.extensions.cursor, keys: Sequence[str]) -> None:
    submit(cursor, [keyed(key) for key in keys])


def end_unique(cursor: psycopg2.extensions.cursor, keys: Sequence[str]) -> None:
    """What the end of their tasks does."""
    cursor.execute(
        f"WITH done AS (SELECT id, unique_key, now() AS completed_at FROM task WHERE unique_key = ANY (%s)), {FREED} SELECT",
        (list(keys),),
    )


def take_idempotent(cursor: psycopg2.extensions.cursor, keys: Sequence[str]) -> None:
    execute(cursor, reserve_keys([KeyedSubmit(key, bytes(32), new_task_id()) for key in keys]))


def is_locked(url: str, table: str, key: str) -> bool:
    """Whether anybody else would wait for the key."""
    connection = psycopg2.connect(url)
    with closing(connection), connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '50ms'")
        try:
            if table == "unique_key":
                cursor.execute("SELECT 1 FROM unique_key WHERE key = %s FOR UPDATE", (key,))
            else:
                cursor.execute("INSERT INTO idempotency VALUES (%s, '', gen_random_uuid(), now())", (key,))
        except psycopg2.errors.LockNotAvailable:
            return True
        return False


def test_keys_are_locked_in_one_order_whatever_the_databases_is(sorted_database: str):
    """B before a: who waits for "a" has "B", and who waits for "B" has not "a"."""
    for take in (take_unique, end_unique, take_idempotent):
        for keys in (("a", "B"), ("B", "a")):
            _assert_order(sorted_database, take, keys)


def _assert_order(sorted_database: str, take: Callable[..., None], keys: tuple[str, str]) -> None:
    table = "idempotency" if take is take_idempotent else "unique_key"
    with closing(Database(sorted_database, application_name="one")) as pool, Worker(sorted_database):
        if table == "unique_key":
            submitted(pool, [keyed("a"), keyed("B")])
        for held, other, is_taken in (("a", "B", True), ("B", "a", False)):
            holder = psycopg2.connect(sorted_database)
            with closing(holder), holder.cursor() as cursor, ThreadPoolExecutor(1) as threads:
                if table == "unique_key":
                    cursor.execute("SELECT 1 FROM unique_key WHERE key = %s FOR UPDATE", (held,))
                else:
                    take_idempotent(cursor, [held])

                def run() -> None:
                    with pool.transaction() as taking:
                        take(taking, keys)
                        taking.execute("ROLLBACK; BEGIN")

                running = threads.submit(run)
                waits = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'one' AND wait_event_type = 'Lock'"
                wait.until(lambda: databases.rows(sorted_database, waits), what="it waits")  # noqa: B023
                assert is_locked(sorted_database, table, other) == is_taken
                holder.rollback()
                running.result()


@pytest.mark.parametrize("policy", ["return_existing", "reject"])
def test_a_submit_that_meets_a_task_that_a_person_just_retries_leaves_it_alone(
    database: str, pool: Database, policy: str
):
    first, second = keyed("K"), keyed("K", policy)
    submitted(pool, [first])
    with Worker(database) as worker:
        [claimed] = worker.claim().values()
        worker.end(claimed, State.FAILURE, error={"type": "X", "message": "", "traceback": None, "retryable": True})
    retry = psycopg2.connect(database)
    with closing(retry), retry.cursor() as cursor, ThreadPoolExecutor(1) as threads:
        assert execute(cursor, resubmit(str(first.id), actor="person"))
        assert execute(cursor, retake_key(str(first.id))) == [(str(first.id),)]
        outcome = threads.submit(submitted, pool, [second])
        waits = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'one' AND wait_event_type = 'Lock'"
        wait.until(lambda: databases.rows(database, waits), what="the submit waits for the key")
        retry.commit()
        [answer] = outcome.result().others.values()
    if policy == "reject":
        assert isinstance(answer, DuplicateTask)
        assert answer.extra["task_status"] == "PENDING"
    else:
        assert answer == Existing(first.id, State.PENDING)
    assert databases.rows(database, "SELECT id::text, state FROM task") == [(str(first.id), "PENDING")]
    ledger_checks.assert_sound(database)


@pytest.mark.parametrize("policy", ["return_existing", "replace"])
def test_two_sends_under_one_celery_id_leave_no_key_that_belongs_to_no_task(database: str, pool: Database, policy: str):
    first, second = keyed("k1", celery_id="mine"), keyed("k2", policy, celery_id="mine")
    with closing(Database(database, application_name="two")) as other, ThreadPoolExecutor(1) as threads:
        with pool.transaction() as cursor:
            submit(cursor, [first])
            running = threads.submit(submitted, other, [second])
            waits = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'two' AND wait_event_type = 'Lock'"
            wait.until(lambda: databases.rows(database, waits), what="the second waits for the first")
        assert running.result().others == {}
    assert databases.rows(database, "SELECT key, task_id FROM unique_key") == [("k1", str(first.id))]
    third = keyed("k2", policy)
    assert submitted(pool, [third]).others == {}
    ledger_checks.assert_sound(database)


def test_a_thousand_that_replace_under_one_key_take_as_few_statements_as_two(
    database: str, pool: Database, monkeypatch: pytest.MonkeyPatch
):
    holder = keyed("K")
    submitted(pool, [holder])
    run: list[object] = []
    real = submitting.execute
    monkeypatch.setattr(submitting, "execute", lambda *args: run.append(args) or real(*args))
    tasks = [keyed("K", "replace") for _ in range(1000)]
    plain = [NewTask(new_task_id(), ANYTHING, "default", "{}") for _ in range(3)]
    follower = keyed("K")
    assert submitted(pool, [*plain, *tasks[:500], follower, *tasks[500:]]).others == {
        follower.id: Existing(tasks[499].id, State.PENDING)
    }
    assert len(run) <= 5
    states = dict(databases.rows(database, "SELECT id::text, state FROM task"))  # type: ignore[arg-type]
    waiting = {task_id for task_id, state in states.items() if state == "PENDING"}
    assert waiting == {str(task.id) for task in (*plain, tasks[-1])}
    assert set(states.values()) == {"PENDING", "REVOKED"}
    assert len(states) == 1004
    told = (
        "SELECT count(*) FROM task_event WHERE kind = 'revoked' AND data->>'by' = %s AND data->>'reason' = 'replaced'"
    )
    assert databases.rows(database, told, (str(tasks[-1].id),)) == [(1000,)]
    ledger_checks.assert_sound(database)
    # The same once more, as after a commit that was interrupted, changes nothing.
    submitted(pool, [*plain, *tasks[:500], follower, *tasks[500:]])
    assert databases.rows(database, "SELECT count(*) FROM task") == [(1004,)]
    ledger_checks.assert_sound(database)


def test_those_that_cannot_replace_are_all_told_so(database: str, pool: Database):
    holder = keyed("K")
    submitted(pool, [holder])
    with Worker(database) as worker:
        worker.claim()
        tasks = [keyed("K", policy) for policy in ("return_existing", "replace", "replace", "reject", "replace")]
        others = submitted(pool, tasks).others
    assert others[tasks[0].id] == Existing(holder.id, State.PENDING)
    assert all(isinstance(others[task.id], DuplicateTask) for task in tasks[1:])
    assert {other.extra["task_id"] for other in others.values() if isinstance(other, DuplicateTask)} == {str(holder.id)}
    assert databases.rows(database, "SELECT count(*) FROM task") == [(1,)]


def test_an_idempotency_key_that_is_forgotten_in_the_middle_of_a_submit_is_taken_anew(
    database: str, redis_database: str, monkeypatch: pytest.MonkeyPatch
):
    api_support.register(database, *api_support.CATALOGUE)
    one = {"task_type": ANYTHING}
    forgotten = threading.Event()

    def late(keys: Sequence[str]) -> object:
        if not forgotten.is_set():
            forgotten.set()
            databases.execute(database, "DELETE FROM idempotency")  # what maintenance does
        return find_keys(keys)

    with api_support.serve(database, redis_database) as api:
        for path, body in (("/tasks/submit", one), ("/tasks/submit/batch", {"tasks": [one]})):
            headers = {"idempotency-key": path}
            first = api.post(path, body, headers=headers)
            forgotten.clear()
            monkeypatch.setattr(idempotency, "find_keys", late)
            second = api.post(path, body, headers=headers)
            assert forgotten.is_set()
            third = api.post(path, body, headers=headers)
            assert [answer.status for answer in (first, second, third)] == [202, 202, 202]
            assert first.body != second.body
            assert second.body == third.body
    assert databases.rows(database, "SELECT count(*) FROM task") == [(4,)]
