"""Times of a task, as parts of statements: a task's history never runs backwards, and the task keeps its own place in
the queue.

PostgreSQL's clock may be set back, a worker's ages are rounded, and one statement reads the clock more than once. So
every statement that writes an event writes a time that is not before that of the previous event, which the task's row
has.
"""

#: The earliest time of the next event of the task ``t``: these columns have the times of all its events so far. Nulls
#: do not count. ``noted_at`` is the time of events without a column of their own (retried, recovered, a line, …).
LATEST = "greatest(t.submitted_at, t.started_at, t.progress_at, t.completed_at, t.noted_at)"

#: The same, for the `dispatched` event before a start, when ``started_at`` has already been overwritten: the end of an
#: earlier attempt is in ``noted_at``.
LATEST_BEFORE_START = "greatest(t.submitted_at, t.noted_at)"

#: The place of the waiting task ``t`` in its queue: the time since which it might have begun. If its ETA was already
#: past at its submission, that is the time of the submission; a retry has written a time of its own.
PLACE = "greatest(t.run_at, t.submitted_at)"
