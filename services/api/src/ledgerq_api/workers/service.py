"""What the API says about workers."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC

from ledgerq_api.ages import shown
from ledgerq_api.ledger import Ledger
from ledgerq_api.workers.schemas import RunningTask, WorkerEntry, WorkerList
from ledgerq_shared.database import Cursor, execute
from ledgerq_shared.statements.read_queues import read_live_workers, read_running


class WorkerService:
    """Shows workers."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def list_all(self) -> WorkerList:
        """All live workers."""
        entries, as_of = await self._ledger.look(_read)
        return WorkerList(workers=entries, total_count=len(entries), as_of=shown(as_of))


def _read(cursor: Cursor) -> list[WorkerEntry]:
    running: dict[str, list[RunningTask]] = defaultdict(list)
    for worker_id, task_id, task_type, started_at in execute(cursor, read_running()):
        task = RunningTask(task_id=task_id, task_type=task_type, started_at=started_at.astimezone(UTC))
        running[worker_id].append(task)
    return [
        WorkerEntry(
            worker_id=worker_id,
            name=name,
            host=host,
            pid=pid,
            pool=pool,
            slots=slots,
            queues=queues,
            task_types=task_types,
            started_at=started_at.astimezone(UTC),
            heartbeat_age_seconds=max(round(age, 3), 0.0),
            stopping=stopping,
            running=running[worker_id],
        )
        for worker_id, name, host, pid, pool, slots, queues, task_types, started_at, age, stopping in execute(
            cursor, read_live_workers()
        )
    ]
