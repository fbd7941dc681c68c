"""Read what is new about many tasks at once, for clients that follow them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from ledgerq_shared.events import StoredEvent
from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.arrays import plain_array


class News(NamedTuple):
    """One event that a follower has not seen."""

    #: The number of the follower, from 0.
    follower: int
    #: Number of the task's latest event, and whether the task is final, at the moment of this look.
    task_seq: int
    is_final: bool
    #: The event, with ``data`` as text; None: the ledger no longer has any of the events.
    event: StoredEvent | None


def read_news(
    task_ids: Iterable[str], seen: Iterable[int], *, limit: int, most_characters: int = 1024 * 1024
) -> Statement[News]:
    """Rows for followers of tasks with news, in order; none for the others.

    It reads each task's row by its primary key, whatever the planner's estimate is, and reads events only if there is
    news.

    Args:
        seen: per follower, the number of the last event that it has.
        limit: how many stored events to read for each follower at most.
        most_characters: if the ``data`` of a follower's events exceed this, one more event follows and no further one.
    """
    params = {"ids": plain_array(task_ids), "seen": plain_array(seen), "limit": limit}
    params["most_characters"] = most_characters
    return Statement(_NEWS, params, "read_news", _news)


def _news(row: tuple[Any, ...]) -> News:
    follower, task_seq, is_final, *event = row
    return News(follower, task_seq, is_final, None if event[0] is None else StoredEvent._make(event))


_NEWS = """
WITH changed AS MATERIALIZED (
  SELECT w.n, w.id, w.seen, t.seq, t.submitted_at, t.is_final
  FROM unnest(%(ids)s::uuid[], %(seen)s::integer[]) WITH ORDINALITY AS w(id, seen, n)
  CROSS JOIN LATERAL (
    SELECT seq, submitted_at, completed_at IS NOT NULL AS is_final FROM task WHERE id = w.id OFFSET 0
  ) t
  WHERE t.seq > w.seen
)
SELECT c.n - 1, c.seq, c.is_final, e.seq, e.at, e.kind, e.attempt, e.actor, e.claimed_at, e.started_at, e.data
FROM changed c LEFT JOIN LATERAL (
  SELECT seq, at, kind, attempt, actor, claimed_at, started_at, data::text AS data FROM (
    SELECT found.*, sum(length(data::text)) OVER (
      ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 2 PRECEDING) AS characters
    FROM (
      SELECT seq, at, kind, attempt, actor, claimed_at, started_at, data FROM task_event
      WHERE task_id = c.id AND seq > c.seen
        AND at >= c.submitted_at - interval '1 day' AND at < now() + interval '1 day'
      ORDER BY seq LIMIT %(limit)s::integer
    ) AS found
  ) AS sized
  WHERE coalesce(characters, 0) <= %(most_characters)s::bigint
) e ON true
ORDER BY c.n, e.seq
"""
