"""What Flower shows of a task is asked for again as soon as the ledger has something else, and not before."""

from __future__ import annotations

from contextlib import closing

import pytest

from ledgerq_shared.ids import new_task_id
from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.statements.read_flower import Shown, read_changed, read_flower_tasks
from ledgerq_shared.statements.submit import NewTask, NewTaskOptions, submit_tasks
from tests.support import databases


@pytest.mark.parametrize("by", ["id", "celery_id"])
def test_a_task_has_changed_if_any_field_that_is_compared_has(database: str, by):
    task_id, celery_id = str(new_task_id()), "their-own"
    task = NewTask(task_id, "demo.anything", "default", "{}", options=NewTaskOptions(celery_id=celery_id))
    with closing(Database(database, application_name="test")) as ledger:
        with ledger.transaction() as cursor:
            execute(cursor, submit_tasks([task]))

        def shown(**other: object) -> Shown:
            [row] = ledger.fetch(read_flower_tasks([task_id]))
            uuid = task_id if by == "id" else celery_id
            return Shown(uuid, row.state, row.retries, row.attempts, row.progress_at)._replace(**other)

        def has_changed(one: Shown) -> bool:
            rows = ledger.fetch(read_changed([one], by=by))
            assert [row.id for row in rows] in ([], [task_id])
            return bool(rows)

        assert not has_changed(shown())
        assert not has_changed(shown(state="RECEIVED"))
        for change in ("state = 'STARTED'", "retries = 1", "attempt = 1", "progress_at = now()"):
            before = shown()
            databases.execute(database, f"UPDATE task SET {change}")
            assert has_changed(before), change
            assert not has_changed(shown()), change
        assert has_changed(shown(state="RECEIVED"))
        assert has_changed(shown(attempts=-1))
