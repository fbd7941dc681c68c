"""What must leave after a commit and is not in the ledger itself: an entry is written in the same transaction, and
deleted when it has left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ledgerq_shared.sql import Nothing, Statement
from ledgerq_shared.statements.arrays import plain_array, text_array
from ledgerq_shared.statements.times import LATEST


def put_in_outbox(kind: str, payloads: Sequence[str]) -> Statement[tuple[int]]:
    """Write entries for what must leave after this commit and is not in the ledger itself. Returns the entries'
    numbers, in the given order.
    """
    return Statement(_PUT_IN_OUTBOX, {"kind": kind, "payloads": text_array(payloads)})


_PUT_IN_OUTBOX = """
INSERT INTO outbox (kind, payload, created_at)
SELECT %(kind)s, p::json, now() FROM unnest(%(payloads)s::text[]) WITH ORDINALITY AS u(p, n) ORDER BY n
RETURNING id
"""


class OutboxEntry(NamedTuple):
    """Something that has to leave."""

    #: Its number.
    entry: int
    #: ``message`` or ``outcome``.
    kind: str
    payload: dict[str, Any]
    #: How many times it has been taken, including this time.
    attempts: int


def take_from_outbox(
    *, ids: Sequence[int] | None = None, older_than: float = 0.0, lease: float
) -> Statement[OutboxEntry]:
    """Take entries for ``lease`` seconds. Do what they say, then :func:`delete_from_outbox`; if the process dies
    meanwhile, the next one takes them when the lease is over.

    Args:
        ids: these entries; None: entries that are older than ``older_than`` seconds (their writer would have done them
            by then): either many that nobody has tried, or one that somebody has tried, because the process may have
            died of it.
    """
    return Statement(
        _TAKE_FROM_OUTBOX,
        {"ids": None if ids is None else plain_array(ids), "older_than": older_than, "lease": lease},
        row=OutboxEntry._make,
    )


_TAKE_FROM_OUTBOX = """
WITH free AS MATERIALIZED (
  SELECT id, attempts FROM outbox
  WHERE CASE WHEN %(ids)s::bigint[] IS NULL
             THEN NOT created_at BETWEEN now() - %(older_than)s * interval '1 second' AND now() + interval '1 minute'
             ELSE id = ANY(%(ids)s::bigint[]) END
    AND (taken_until IS NULL OR taken_until < now() OR taken_until > now() + interval '1 hour')
  ORDER BY attempts > 0, id LIMIT 100 FOR UPDATE SKIP LOCKED
)
UPDATE outbox o SET attempts = o.attempts + 1, taken_until = now() + %(lease)s * interval '1 second'
FROM free f WHERE o.id = f.id AND (f.attempts = 0 OR f.id = (SELECT id FROM free ORDER BY attempts > 0, id LIMIT 1))
RETURNING o.id, o.kind, o.payload, o.attempts
"""


def keep_from_outbox(entry: int, *, lease: float) -> Statement[Nothing]:
    """Extend the lease of an entry that takes longer: nobody else may take it for ``lease`` seconds."""
    return Statement(_KEEP_FROM_OUTBOX, {"id": entry, "lease": lease})


_KEEP_FROM_OUTBOX = "UPDATE outbox SET taken_until = now() + %(lease)s * interval '1 second' WHERE id = %(id)s"


def put_back_in_outbox(ids: Sequence[int]) -> Statement[Nothing]:
    """Put back entries that were taken and not tried: any process may take them again."""
    return Statement(_PUT_BACK_IN_OUTBOX, {"ids": plain_array(ids)})


_PUT_BACK_IN_OUTBOX = "UPDATE outbox SET taken_until = NULL, attempts = attempts - 1 WHERE id = ANY(%(ids)s::bigint[])"


def delete_from_outbox(ids: Sequence[int]) -> Statement[Nothing]:
    """Delete entries that are done."""
    return Statement(_DELETE_FROM_OUTBOX, {"ids": plain_array(ids)})


_DELETE_FROM_OUTBOX = "DELETE FROM outbox WHERE id = ANY(%(ids)s::bigint[])"


class FailedDelivery(NamedTuple):
    """An entry that is deleted although it was not done."""

    entry: int
    #: The task whose end it is about; None: the entry does not say (it is from an older release).
    task_id: str | None
    #: A JSON object for the event.
    data: str


def note_failed_deliveries(failed: Sequence[FailedDelivery], *, actor: str) -> Statement[tuple[str]]:
    """Delete entries and write a `delivery_failed` event for each, in the history of its task. Returns the ids of these
    tasks. For an entry that is already gone there is no event.
    """
    return Statement(
        _NOTE_FAILED_DELIVERIES,
        {
            "entry": plain_array(one.entry for one in failed),
            "task": plain_array(one.task_id for one in failed),
            "data": text_array(one.data for one in failed),
            "actor": actor,
        },
    )


_NOTE_FAILED_DELIVERIES = f"""
WITH gone AS (
  DELETE FROM outbox o USING unnest(%(entry)s::bigint[], %(task)s::uuid[], %(data)s::text[]) AS i(entry, task, data)
  WHERE o.id = i.entry RETURNING o.id, i.task, i.data
), done AS (
  UPDATE task t SET seq = t.seq + g.events, noted_at = greatest(clock_timestamp(), {LATEST})
  FROM (SELECT task, count(*)::integer AS events FROM gone GROUP BY task) g WHERE t.id = g.task
  RETURNING t.id, t.seq - g.events AS before, t.noted_at, t.attempt
)
INSERT INTO task_event (task_id, seq, at, kind, attempt, actor, data)
SELECT d.id, d.before + row_number() OVER (PARTITION BY d.id ORDER BY g.id), d.noted_at, 'delivery_failed',
       d.attempt, %(actor)s, g.data::json
FROM done d JOIN gone g ON g.task = d.id RETURNING task_id
"""
