"""The partitions of ``task_event``: one for each UTC day, made far ahead, and a default one for events without a
partition of their day.

PostgreSQL attaches a partition only after it has read all of the default partition, which nobody may touch meanwhile.
If the default partition is small, this takes a moment. A large one is *replaced*: a constraint says which days it holds
(its *seal*) and is checked while others work; then the table itself becomes the partition of these days, and an empty
one becomes the default. No row moves.
"""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

from ledgerq_shared.sql import Nothing, Statement

#: A default partition of this many bytes is read in a few hundredths of a second.
_SMALL = 16_000_000
#: No statement waits longer for a strong lock, because everybody else would wait behind it; it is tried again later.
_BRIEFLY = "SET LOCAL lock_timeout = '500ms'; "
#: How many days ahead a seal ends: if it is not used before that, it would refuse events.
_SEALED_AHEAD = 32


def missing_event_days(*, days_ahead: int) -> Statement[tuple[date]]:
    """From today on, the first first, days that no partition covers and of which the default one has no
    rows. (Those stay where they are: a day is skipped rather than moved.)
    """
    return Statement(
        """
        SELECT d::date FROM generate_series(date_trunc('day', now() AT TIME ZONE 'UTC'),
                                            date_trunc('day', now() AT TIME ZONE 'UTC') + %(n)s * interval '1 day',
                                            interval '1 day') AS d
        WHERE NOT EXISTS (SELECT FROM ledgerq_event_ranges() r
                          WHERE r.since <= d AT TIME ZONE 'UTC' AND r.until > d AT TIME ZONE 'UTC')
          AND d::date NOT IN (SELECT (at AT TIME ZONE 'UTC')::date FROM task_event_default
                              WHERE at >= date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC')
        ORDER BY d
        """,
        {"n": days_ahead},
    )


def make_event_partition(day: date) -> Statement[tuple[bool]]:
    """Make the partition of one day. Whether it was made; false: there is one that covers it."""
    return Statement("SELECT ledgerq_make_event_partition(%(day)s)", {"day": day})


class DefaultPartition(NamedTuple):
    """The default partition, where it is not small."""

    #: The name of its seal, and whether all rows have been checked by it. None: it has none.
    seal: str | None
    is_checked: bool | None
    #: For which days it can be sealed; ``until`` is the first that is not its own. None: other partitions lie between its
    #: rows.
    since: date | None
    until: date | None


def default_event_partition() -> Statement[DefaultPartition]:
    """No row: the default partition is small."""
    return Statement(
        """
        WITH found AS MATERIALIZED (
          SELECT min(at) AS since, max(at) AS latest FROM task_event_default
          WHERE pg_relation_size('task_event_default') > %(small)s HAVING count(*) > 0
        ), sealed AS (
          SELECT (since AT TIME ZONE 'UTC')::date AS since, (least(
            (SELECT min(r.since) FROM ledgerq_event_ranges() r WHERE r.since > latest),
            date_trunc('day', greatest(latest, now()) AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
              + %(ahead)s * interval '1 day') AT TIME ZONE 'UTC')::date AS until
          FROM found
        )
        SELECT c.conname, c.convalidated, s.since, s.until
        FROM found LEFT JOIN pg_constraint c
          ON c.conrelid = 'task_event_default'::regclass AND c.conname LIKE 'ck\\_sealed\\_%%'
        LEFT JOIN sealed s ON NOT EXISTS (
          SELECT FROM ledgerq_event_ranges() r
          WHERE r.since < s.until::timestamp AT TIME ZONE 'UTC' AND r.until > s.since::timestamp AT TIME ZONE 'UTC')
        """,
        {"small": _SMALL, "ahead": _SEALED_AHEAD},
        row=DefaultPartition._make,
    )


def seal_event_default(since: date, until: date) -> Statement[Nothing]:
    """Add the constraint that says which days the default partition holds; its rows are checked afterwards."""
    return Statement(_SEAL_EVENT_DEFAULT.format(since=since, until=until), {})


_SEAL_EVENT_DEFAULT = f"""
{_BRIEFLY}
ALTER TABLE task_event_default ADD CONSTRAINT ck_sealed_{{since:%Y%m%d}}_{{until:%Y%m%d}}
  CHECK (at >= '{{since}} 00:00:00+00' AND at < '{{until}} 00:00:00+00') NOT VALID
"""


def check_event_default(seal: str) -> Statement[Nothing]:
    """Check all of its rows against its seal. Nobody has to wait for this."""
    return Statement(_CHECK_EVENT_DEFAULT.format(seal=seal), {})


_CHECK_EVENT_DEFAULT = f"{_BRIEFLY}ALTER TABLE task_event_default VALIDATE CONSTRAINT {{seal}}"


def replace_event_default(seal: str) -> Statement[Nothing]:
    """Make the sealed default partition the partition of its days, and an empty one the default. No rows are read."""
    since, until = (date.fromisoformat(text) for text in seal.split("_")[2:])
    name = f"task_event_until_{until:%Y%m%d}"
    return Statement(_REPLACE_EVENT_DEFAULT.format(name=name, since=since, until=until, seal=seal), {})


_REPLACE_EVENT_DEFAULT = f"""
{_BRIEFLY}
ALTER TABLE task_event DETACH PARTITION task_event_default;
ALTER TABLE task_event_default RENAME TO {{name}};
ALTER INDEX task_event_default_pkey RENAME TO {{name}}_pkey;
ALTER TABLE task_event ATTACH PARTITION {{name}}
  FOR VALUES FROM ('{{since}} 00:00:00+00') TO ('{{until}} 00:00:00+00');
ALTER TABLE {{name}} DROP CONSTRAINT {{seal}};
CREATE TABLE task_event_default (LIKE task_event INCLUDING DEFAULTS);
SELECT ledgerq_protect_events('task_event_default');
ALTER TABLE task_event ATTACH PARTITION task_event_default DEFAULT
"""
