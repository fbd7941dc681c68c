"""The ledger's tasks on Flower's pages: tasks that wait, and ends that no pool process reports.

Workers report what happens inside a drain, and only a limited number of events. Every two seconds the ledger is asked
for what they do not report: the newest tasks, and the present state of the tasks that are shown. If the two disagree
the ledger is right, because workers report only what it has accepted. Everything that touches Flower's state runs in
its event loop; the queries run in one of its threads.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import structlog

from ledgerq_monitor.collectors.collector import Ledger
from ledgerq_shared.postgres.database import Cursor, execute
from ledgerq_shared.statements.read_flower import FlowerRow, Shown, newest_ids, read_changed, read_flower_tasks

log = structlog.get_logger()

#: Seconds between two looks.
_READ_EVERY = 2.0
#: An id is made before its commit, by the clock of another machine: a task is still found this long after its id's time.
_GRACE = timedelta(seconds=60)
#: How many ids one look takes at most, and how many of the shown tasks it asks about at most; if there are more, they
#: take turns.
_MOST_IDS = 10_000
_MOST_ASKED = 2_000
#: Workers' clocks and the ledger's agree within this many seconds.
_CLOCKS_AGREE = 1.0
#: How many characters of an error's text, and of its traceback, are kept.
_LONGEST = 1024
_LONGEST_TRACEBACK = 4096


class _News(NamedTuple):
    """What one look has found."""

    #: None: what was read is older than what is shown.
    changed: Sequence[FlowerRow] | None
    new: Sequence[FlowerRow]
    #: Everything that was committed before this time is in it, in seconds since 1970; None: it is not old.
    as_of: float | None


class _Found(NamedTuple):
    """The rows that were read for it."""

    now: datetime
    #: The newest ids; of these, those that are new here, with their rows.
    ids: Sequence[str]
    changed: Sequence[FlowerRow]
    new: Sequence[str]
    rows: Sequence[FlowerRow]


class LedgerTasks:
    """Keeps Flower's state true to the ledger.

    Args:
        state: Flower's ``EventsState``.
        rate: how many new tasks a second are taken from the ledger at most; if more come at once, the others follow in
            the next minute, or are left out until a worker reports them. 0: none.
    """

    def __init__(self, state: Any, ledger: Ledger, *, rate: float) -> None:
        self._state = state
        self._ledger = ledger
        self._rate = rate
        #: Ids at and after ``_since`` that were taken already.
        self._taken: set[str] = set()
        self._since: datetime | None = None
        self._turn = 0
        self._is_away = False
        #: The time in the ledger of the latest look.
        self._seen_of = datetime.fromtimestamp(0, UTC)

    async def follow(self) -> None:
        """Look again and again, until cancelled. While the ledger is away, Flower goes on with what workers send."""
        loop = asyncio.get_running_loop()
        while True:
            asked = self._whom_to_ask_about()
            try:
                self._show(await loop.run_in_executor(None, self._look, asked), asked)
            except Exception as error:  # away, not migrated yet, no privilege: none of it is the end of Flower
                if not self._is_away:
                    log.warning("flower.ledger.away", error=str(error).partition("\n")[0])
                self._is_away = True
            else:
                if self._is_away:
                    log.info("flower.ledger.back")
                self._is_away = False
            await asyncio.sleep(_READ_EVERY)

    def _whom_to_ask_about(self) -> dict[str, Shown]:
        """Shown tasks that may still change: a task that has succeeded does not change, but one that failed may be
        retried. Workers tell nothing of attempts and progress, so the ledger is asked once more after a success.
        """
        # Reads ``data`` directly: this look must not count as a use of the task, because the least recently used tasks
        # are dropped.
        tasks = self._state.tasks.data.items()
        shown = [_shown(uuid, one) for uuid, one in tasks if not (one.state == "SUCCESS" and _is_whole(one))]
        start = self._turn if self._turn < len(shown) else 0
        self._turn = start + _MOST_ASKED
        return {one.uuid: one for one in shown[start : self._turn]}

    def _look(self, asked: dict[str, Shown]) -> _News:
        by_id = [one for one in asked.values() if _is_own_id(one.uuid)]
        by_celery_id = [one for one in asked.values() if not _is_own_id(one.uuid)]
        limit = min(self._state.tasks.limit, _MOST_IDS)
        changes = []
        if by_id:
            changes.append(read_changed(by_id, by="id"))
        if by_celery_id:
            changes.append(read_changed(by_celery_id, by="celery_id"))
        # At the start, all for which there is room; later, at most as many as the rate allows, the newest first.
        allowed = limit if self._since is None and self._rate else int(self._rate * _READ_EVERY)

        def read(cursor: Cursor) -> _Found:
            """Read everything over one connection, which may lead to a replica: another server may not have the ids
            yet.
            """
            [(now, ids)] = execute(cursor, newest_ids(since=self._since, limit=limit))
            changed = [row for statement in changes for row in execute(cursor, statement)]
            new = [task_id for task_id in ids if task_id not in self._taken][:allowed]
            return _Found(now, ids, changed, new, execute(cursor, read_flower_tasks(new)) if new else [])

        found, as_of = self._ledger.look(read)
        self._since = found.now - _GRACE
        self._taken = self._taken.intersection(found.ids).union(found.new)
        # If a replica answers after the primary, for example, the shown tasks would go back to an earlier time: wait
        # for the next look instead.
        is_forward = as_of is None or as_of >= self._seen_of
        self._seen_of = max(as_of or self._ledger.now(), self._seen_of)
        return _News(
            found.changed if is_forward else None,
            sorted(found.rows),
            None if as_of is None else as_of.timestamp(),
        )

    def _show(self, news: _News, asked: dict[str, Shown]) -> None:
        tasks = self._state.tasks.data
        if news.changed is not None:
            self._update(news.changed, asked, news.as_of)
        for row in news.new:
            uuid = row.celery_id or row.id
            if uuid not in tasks:
                self._put(uuid, row)

    def _update(self, changed: Sequence[FlowerRow], asked: dict[str, Shown], as_of: float | None) -> None:
        tasks = self._state.tasks.data
        # The task may be shown under either of its ids.
        uuids = [row.celery_id if row.celery_id in asked else row.id for row in changed]
        for uuid in asked.keys() & tasks.keys() - set(uuids):
            if _is_older(tasks[uuid], as_of):  # the ledger has nothing else to say of it
                tasks[uuid].__dict__["whole_of"] = asked[uuid].state
        for row, uuid in zip(changed, uuids, strict=True):
            before, task = asked[uuid], tasks.get(uuid)
            # What a worker has reported since the look is newer; with a replica, since the time that the replica shows.
            if task is None or (task.state, _number(task.retries)) != (before.state, before.retries):
                continue
            if _is_same(before, row):
                task.__dict__.update(_details(row))
                continue
            if _is_older(task, as_of):
                self._put(uuid, row)

    def _put(self, uuid: str, row: FlowerRow) -> None:
        """Do what Flower does with an event. An event itself would not do: it cannot take a task back, as recovery and
        retry do, and it needs a worker.
        """
        state = self._state
        evicted = state._eviction_candidate(uuid)  # noqa: SLF001 - Flower's own steps around an event; its version is pinned
        task, _ = state.get_or_create_task(uuid)
        task.__dict__.update(self._fields_of(row))
        state._seen_types.add(row.task_type)  # noqa: SLF001
        state._index_task(task, evicted)  # noqa: SLF001

    def _fields_of(self, row: FlowerRow) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "name": row.task_type,
            "state": row.state,
            "args": row.args or "[]",
            "kwargs": row.parameters,
            "retries": row.retries,
            "sent": row.submitted_at,
            # The pages are sorted and filtered by this time: for a task that waits, it is the time at which LedgerQ
            # received it.
            "received": row.submitted_at,
            "started": row.started_at,
            "timestamp": row.completed_at or row.started_at or row.submitted_at,
            "eta": row.run_at and row.run_at.isoformat(),
            "expires": row.expires_at and row.expires_at.isoformat(),
            "worker": self._worker(row.worker),
            "result": row.result if row.state == "SUCCESS" else None,
            "runtime": None,
            **_details(row),
            **_error(row.error if row.state in {"FAILURE", "RETRY"} else None),
        }
        for field, state in (("succeeded", "SUCCESS"), ("failed", "FAILURE"), ("revoked", "REVOKED")):
            fields[field] = row.completed_at if row.state == state else None
        if row.started_at is not None and row.completed_at is not None and row.state != "REVOKED":
            fields["runtime"] = row.completed_at - row.started_at
        return fields

    def _worker(self, name: str | None) -> Any:
        if name is None:
            return None
        hostname = f"ledgerq@{name.replace(':', '-')}"
        # A worker that has gone is named, but is not among the workers.
        return self._state.workers.data.get(hostname) or self._state.Worker(hostname)


def _shown(uuid: str, task: Any) -> Shown:
    attempts, progress_at = _number(task.attempts), task.__dict__.get("progress_at")
    return Shown(uuid, task.state, _number(task.retries), attempts, progress_at)


def _is_whole(task: Any) -> bool:
    """Whether the ledger was asked about the task since it has this state."""
    return bool(task.__dict__.get("whole_of") == task.state)


def _is_older(task: Any, as_of: float | None) -> bool:
    """Whether the latest event of the task is surely in what was read."""
    return as_of is None or (task.timestamp or 0.0) < as_of - _CLOCKS_AGREE


def _is_same(shown: Shown, row: FlowerRow) -> bool:
    """Whether Flower shows this state already, perhaps with a worker's times, which say more."""
    is_received = shown.state == "RECEIVED" and row.state in {"PENDING", "RETRY"}
    return shown.retries == row.retries and (shown.state == row.state or is_received)


def _details(row: FlowerRow) -> dict[str, Any]:
    """What only the ledger knows."""
    progress = None if row.progress is None else f"{round(row.progress, 1):g} % {row.progress_status or ''}".strip()
    return {"attempts": row.attempts, "progress": progress, "progress_at": row.progress_at, "whole_of": row.state}


def _is_own_id(uuid: str) -> bool:
    """Whether LedgerQ made this id. Other ids were made by Celery, which makes no ids of version 7."""
    try:
        return UUID(uuid).version == 7
    except ValueError:
        return False


def _number(number: int | None) -> int:
    """The number; -1, which no task has, if it is unknown."""
    return -1 if number is None else number


def _error(text: str | None) -> dict[str, str | None]:
    if text is None:
        return {"exception": None, "traceback": None}
    error = json.loads(text)
    exception = f"{error.get('type')}({error.get('message')!r})"
    traceback = str(error.get("traceback") or "")[-_LONGEST_TRACEBACK:]
    # Replaces lone surrogates, which would break the page.
    return {"exception": exception[:_LONGEST], "traceback": traceback.encode(errors="replace").decode()}
