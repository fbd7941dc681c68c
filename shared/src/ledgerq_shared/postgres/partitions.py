"""Keeps the event log's partitions ahead of the events. No step waits longer than a moment for a strong lock, or holds
one while it reads.
"""

from __future__ import annotations

from typing import Any

import structlog

from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.sql import Nothing, Statement
from ledgerq_shared.statements.partitions import (
    DefaultPartition,
    check_event_default,
    default_event_partition,
    make_event_partition,
    missing_event_days,
    replace_event_default,
    seal_event_default,
)

log = structlog.get_logger()


def make_next_partition(database: Database, *, days_ahead: int) -> bool:
    """Take one step towards a partition for each of ``days_ahead`` days from today on; returns whether another step may
    be needed.

    Raises:
        LedgerUnavailable: PostgreSQL is away; or (``is_busy``) somebody reads the event log: try again later.
    """
    days = database.fetch(missing_event_days(days_ahead=days_ahead))
    if not days:
        return False
    for default in database.fetch(default_event_partition()):
        replacing = _replacing(default)
        if replacing is None:
            log.error("partitions.default_is_in_between", what="no partition of the event log can be made: other partitions"
                      " lie between the days of task_event_default, which is large")  # fmt: skip
            return False
        _run(database, replacing)
        return True
    (first,), *others = days
    _run(database, make_event_partition(first))
    return bool(others)


def _replacing(default: DefaultPartition) -> Statement[Nothing] | None:
    """The next step towards its replacement; None: there is none."""
    if default.seal is not None:
        return replace_event_default(default.seal) if default.is_checked else check_event_default(default.seal)
    if default.since is None or default.until is None:
        return None
    return seal_event_default(default.since, default.until)


def _run(database: Database, statement: Statement[Any]) -> None:
    with database.transaction() as cursor:
        execute(cursor, statement)
