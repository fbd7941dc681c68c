"""One statement accepts tasks of several kinds: each keeps what is its own."""

from __future__ import annotations

from collections import Counter

import psycopg2.errors
import pytest

from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.statements.submit import NewTask, NewTaskOptions, submit_tasks
from tests.support import databases


def submitted(url: str, tasks: list[NewTask], *, are_new: bool = False) -> Counter[str]:
    database = Database(url, application_name="test")
    with database.transaction() as cursor:
        ready = Counter(dict(execute(cursor, submit_tasks(tasks, are_new=are_new))))
    database.close()
    return ready


def kept(url: str) -> list[tuple[object, ...]]:
    return databases.rows(
        url,
        "SELECT t.id, t.task_type, t.queue, t.priority::integer, t.parameters::text, t.tags, e.actor "
        "FROM task t JOIN task_event e ON e.task_id = t.id ORDER BY t.id",
    )


def expected(tasks: list[NewTask]) -> list[tuple[object, ...]]:
    return [
        (
            str(task.id),
            task.task_type,
            task.queue,
            task.priority,
            task.parameters,
            task.options.tags if task.options else None,
            task.actor,
        )
        for task in tasks
    ]


def test_tasks_of_several_types_queues_priorities_and_actors_keep_their_own(database: str):
    tasks = [
        NewTask(
            new_task_id(),
            f"demo.type{n % 3}",
            f"queue{n % 2}",
            f'{{"n": {n}}}',
            priority=n % 10,
            actor=f"key:{n % 4}",
            options=NewTaskOptions(tags=[f"tag{n}"]) if n % 5 == 0 else None,
        )
        for n in range(60)
    ]
    assert submitted(database, tasks) == {"queue0": 30, "queue1": 30}
    assert kept(database) == expected(tasks)


def test_tasks_of_one_actor_without_options_keep_their_own_and_are_taken_once(database: str):
    tasks = [NewTask(new_task_id(), f"demo.type{n % 3}", "default", f'{{"n": {n}}}', actor="key:a") for n in range(30)]
    assert submitted(database, tasks[:20]) == {"default": 20}
    assert submitted(database, [*tasks, tasks[25]]) == {"default": 10}
    assert kept(database) == expected(tasks)


def test_new_tasks_keep_their_own_whatever_is_written_in_their_parameters(database: str):
    texts = [r'{"a": "\\ \" , } {"}', '{"b": "NULL"}', "{}", r'{"c": "\u2028 ü 你好 \n"}', '{"d": [1, {"e": ","}]}']
    tasks = [
        NewTask(new_task_id(), f"demo.type{n % 3}", f"queue{n % 2}", text, priority=n, actor=f"key:{n}", trace=trace)
        for n, (text, trace) in enumerate(zip(texts, ["a-1", None, '"', "", "b-2"], strict=True))
    ]
    assert submitted(database, tasks, are_new=True) == {"queue0": 3, "queue1": 2}
    assert kept(database) == expected(tasks)
    traces = databases.rows(database, "SELECT trace FROM task ORDER BY id")
    assert [trace for (trace,) in traces] == [task.trace for task in tasks]
    waiting = "SELECT count(*) FROM ready r JOIN task t ON t.id = r.task_id AND r.run_at = t.submitted_at"
    assert databases.rows(database, waiting) == [(5,)]
    assert databases.rows(database, "SELECT sum(delta) FROM task_count WHERE state = 'PENDING'") == [(5,)]


def test_new_tasks_sent_again_as_such_are_refused_and_sent_again_as_known_change_nothing(database: str):
    tasks = [NewTask(new_task_id(), "demo.anything", "default", "{}") for _ in range(3)]
    assert submitted(database, tasks, are_new=True) == {"default": 3}
    with pytest.raises(psycopg2.errors.UniqueViolation):
        submitted(database, tasks, are_new=True)
    assert submitted(database, tasks) == {}
    assert kept(database) == expected(tasks)


def test_new_tasks_with_options_keep_them(database: str):
    tasks = [NewTask(new_task_id(), "demo.anything", "default", "{}", options=NewTaskOptions(tags=["a"]))]
    assert submitted(database, tasks, are_new=True) == {"default": 1}
    assert kept(database) == expected(tasks)


def test_what_waits_for_its_time_is_not_counted_as_ready(database: str):
    later = NewTask(new_task_id(), "demo.anything", "default", "{}", options=NewTaskOptions(countdown=3600.0))
    assert submitted(database, [later, NewTask(new_task_id(), "demo.anything", "default", "{}")]) == {"default": 1}
    assert submitted(database, []) == {}
