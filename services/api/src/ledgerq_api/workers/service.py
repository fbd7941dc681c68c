"""What the API says about workers."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC

from ledgerq_api.answers.ages import shown
from ledgerq_api.ledger import Ledger
from ledgerq_api.workers.schemas import RunningTask, WorkerEntry, WorkerList
from ledgerq_shared.postgres.database import Cursor, execute
from ledgerq_shared.statements.read_queues import read_all_running, read_live_workers


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
    for one in execute(cursor, read_all_running()):
        task = RunningTask(task_id=one.task_id, task_type=one.task_type, started_at=one.started_at.astimezone(UTC))
        running[one.worker_id].append(task)
    return [
        WorkerEntry(
            worker_id=worker.id,
            name=worker.name,
            host=worker.host,
            pid=worker.pid,
            pool=worker.pool,
            slots=worker.slots,
            queues=worker.queues,
            task_types=worker.task_types,
            started_at=worker.started_at.astimezone(UTC),
            heartbeat_age_seconds=max(round(worker.heartbeat_age, 3), 0.0),
            stopping=worker.is_stopping,
            running=running[worker.id],
        )
        for worker in execute(cursor, read_live_workers())
    ]
