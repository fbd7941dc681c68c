"""Small duties that keep the tables in shape: fold the counts, make the event log's next partitions,
forget old keys.
"""

from __future__ import annotations

from ledgerq_shared.postgres.database import Database, execute
from ledgerq_shared.postgres.partitions import make_next_partition
from ledgerq_shared.statements.fold import fold_counts
from ledgerq_shared.statements.unique import forget_keys

_FOLD_AT = 2000
_FOLD_AT_ONCE = 50_000
_DAYS_AHEAD = 62
#: Seconds until partitions are made again: after a reader of the log was in the way, and otherwise.
_AFTER_A_FAILURE, _COMPLETE = 60.0, 3600.0
_FORGET_AT_ONCE = 5000


class FoldCounts:
    """Replaces the differences of the counters with their sums, so that the counters stay cheap to read."""

    name = "fold_counts"
    every = 5.0

    def __init__(self, database: Database) -> None:
        self._database = database

    def run_once(self) -> int:
        """Fold if there are enough rows to be worth it. Fewer rows do not count as work."""
        with self._database.transaction() as cursor:
            [(rows,)] = execute(cursor, fold_counts(at_least=_FOLD_AT, at_most=_FOLD_AT_ONCE))
        return rows if rows == _FOLD_AT_ONCE else 0


class MakePartitions:
    """Makes the event log's partitions two months ahead, so that neither a month without maintenance nor a reader that
    is in the way for a month does any harm.
    """

    name = "make_partitions"

    def __init__(self, database: Database) -> None:
        self._database = database
        self.every = 0.0

    def run_once(self) -> int:
        """Make the missing partitions, each in a transaction of its own."""
        self.every = _AFTER_A_FAILURE
        while make_next_partition(self._database, days_ahead=_DAYS_AHEAD):
            pass
        self.every = _COMPLETE
        return 0


class ForgetKeys:
    """Deletes unique keys whose time is over, and old Idempotency-Keys.

    Args:
        idempotency_hours: for how many hours an Idempotency-Key is remembered.
    """

    name = "forget_keys"
    every = 60.0

    def __init__(self, database: Database, *, idempotency_hours: float) -> None:
        self._database = database
        self._older_than = idempotency_hours * 3600

    def run_once(self) -> int:
        """Delete one batch."""
        with self._database.transaction() as cursor:
            [(deleted,)] = execute(cursor, forget_keys(idempotency_older_than=self._older_than, limit=_FORGET_AT_ONCE))
        return deleted
