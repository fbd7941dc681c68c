"""Times of a task, as parts of statements: its history never runs backwards, and its place in the queue stays its own.

PostgreSQL's clock may be set back, a worker's ages are rounded, and one statement reads the clock more than once. So
whatever writes an event writes a time that is not before the event before it, which the task's row tells.
"""

#: No earlier than this may the next event of the task ``t`` be: all its events so far stand in these columns. Nulls do
#: not count. ``noted_at`` is the time of those that have no column of their own (retried, recovered, a line, …).
LATEST = "greatest(t.submitted_at, t.started_at, t.progress_at, t.completed_at, t.noted_at)"

#: The same as far as it is still there when ``started_at`` has been written anew, for the `dispatched` before that:
#: whatever ended an earlier attempt is in ``noted_at``.
LATEST_BEFORE_START = "greatest(t.submitted_at, t.noted_at)"

#: Where the waiting task ``t`` stands in its queue: since when it might have begun. An ETA that was past when it was
#: submitted counts from then; a retry has written its own time.
PLACE = "greatest(t.run_at, t.submitted_at)"
