"""Accept tasks: rows, ready or held entries, `submitted` events and counts, for a whole batch in one statement."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.arrays import id_array, plain_array, text_array

DEFAULT_PRIORITY = 5


class NewTask(NamedTuple):
    """A task that is about to be accepted. JSON fields are encoded texts, which are stored as they are."""

    id: UUID
    task_type: str
    queue: str
    #: Keyword arguments as a JSON object.
    parameters: str
    #: 0 to 9; 9 runs first.
    priority: int = DEFAULT_PRIORITY
    #: Who asked: ``api``, ``key:<id>``, ``worker:<name>`` or ``client``.
    actor: str = "api"
    #: Fields that few tasks have; see :class:`NewTaskOptions`. ``None`` costs nothing.
    options: NewTaskOptions | None = None
    #: Where it comes from: the text of a :class:`ledgerq_shared.process.tracing.Origin`.
    trace: str | None = None


class NewTaskOptions(NamedTuple):
    """Fields that most submits leave out. ``None`` means that a field was not given."""

    #: The task may not begin before this time (RFC 3339 if it is a text); or ``countdown`` seconds from now, by the
    #: database's clock.
    run_at: datetime | str | None = None
    countdown: float | None = None
    #: The task must not begin after this time; or ``expires_in`` seconds from now, by the database's clock.
    expires_at: datetime | str | None = None
    expires_in: float | None = None
    max_retries: int | None = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    on_worker_lost: str | None = None
    #: Retries already made, for a message that Celery sends on.
    retries: int | None = None
    #: Positional arguments, as a JSON array.
    args: str | None = None
    #: Callbacks, chain, chord and headers of a Celery message, as a JSON object.
    celery: str | None = None
    #: Celery's own id, if it is not the text of our UUID.
    celery_id: str | None = None
    metadata: str | None = None
    tags: list[str] | None = None
    rerun_of: UUID | None = None
    #: At most one task holds a key; see :mod:`ledgerq_shared.statements.unique`.
    unique_key: str | None = None
    #: ``return_existing`` (None means the same), ``reject`` or ``replace``.
    unique_policy: str | None = None
    #: True: the submitter may see only tasks of its own; ``ends_own``: it may end (``replace``) only those.
    sees_own: bool | None = None
    ends_own: bool | None = None
    #: Seconds from now for which the key is held; None: until the task is final.
    unique_ttl: float | None = None

    def encoded(self) -> str:
        """A JSON object with only the given fields."""
        given = zip(_OPTION_NAMES, self, strict=True)
        return json.dumps({name: _plain(value) for name, value in given if value is not None})


_OPTION_NAMES = NewTaskOptions._fields


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value


def submit_tasks(tasks: Sequence[NewTask], *, are_new: bool = False) -> Statement[tuple[str, int]]:
    """Accept ``tasks``. Returns, by queue, how many of the tasks that were not there before may run now.

    Sending the same ids again changes nothing, so a submit whose commit was interrupted can simply be repeated. If an
    id is given twice, it is taken once. A time that is already past counts as "at once". Unique keys are not
    considered: see :func:`~ledgerq_shared.statements.unique.submit_unique_tasks`.

    Args:
        are_new: this process made their ids, each is given once, and no statement with any of them was sent so far. So
            no task with such an id can exist, and none is looked for. If one exists nevertheless, that is an error.
    """
    if are_new and are_plain(tasks):
        return submit_plain_tasks(tasks)
    actors = {task.actor for task in tasks}
    return (
        Statement(_SUBMIT, submit_parameters(tasks), "submit_tasks")
        if len(actors) == 1
        else Statement(_SUBMIT_OF_SEVERAL, submit_parameters(tasks), "submit_tasks_of_several")
    )


def submit_plain_tasks(tasks: Sequence[NewTask]) -> Statement[tuple[str, int]]:
    """As :func:`submit_tasks`, for tasks that are new and plain, which the caller has checked."""
    return Statement(_SUBMIT_PLAIN, _parameters(tasks), "submit_plain_tasks")


def are_plain(tasks: Sequence[NewTask]) -> bool:
    """Whether no task has options. It is asked for each batch, so it counts in a list, which costs a third of
    ``all``.
    """
    return [task.options for task in tasks].count(None) == len(tasks)


#: The options of any number of tasks that have none: unnest() fills up a short array with nulls.
_NO_OPTIONS = "{}"


def submit_parameters(tasks: Sequence[NewTask]) -> dict[str, Any]:
    """The parameters of a statement that begins with :data:`INPUT`."""
    if len({task.id for task in tasks}) < len(tasks):
        # Two tasks with the same id would each write a first event with the same number.
        tasks = list({task.id: task for task in tasks}.values())
    if are_plain(tasks):
        return _parameters(tasks)
    options = [None if task.options is None else task.options.encoded() for task in tasks]
    return _parameters(tasks, text_array(options))


def _parameters(tasks: Sequence[NewTask], options: str = _NO_OPTIONS) -> dict[str, Any]:
    # A large batch has few kinds of tasks: what they have in common is sent once, and each task has the number of its
    # kind.
    kinds: dict[tuple[str, str, int, str], int] = {}
    numbers = [
        kinds.setdefault((task.task_type, task.queue, task.priority, task.actor), len(kinds) + 1) for task in tasks
    ]
    return {
        "id": id_array([task.id for task in tasks]),
        "kind": plain_array(numbers),
        "task_type": text_array([kind[0] for kind in kinds]),
        "queue": text_array([kind[1] for kind in kinds]),
        "priority": plain_array([kind[2] for kind in kinds]),
        "actor": text_array([kind[3] for kind in kinds]),
        "parameters": text_array([task.parameters for task in tasks]),
        "trace": text_array([task.trace for task in tasks]),
        "options": options,
    }


#: A CTE: the tasks to accept.
INPUT = """
input AS MATERIALIZED (
  SELECT i.*,
         coalesce((i.o->>'run_at')::timestamptz,
                  now() + (i.o->>'countdown')::float8 * interval '1 second') AS run_at,
         coalesce((i.o->>'expires_at')::timestamptz,
                  now() + (i.o->>'expires_in')::float8 * interval '1 second') AS expires_at
  FROM (SELECT u.id, u.kind, (%(task_type)s::text[])[u.kind] AS task_type, (%(queue)s::text[])[u.kind] AS queue,
               (%(priority)s::smallint[])[u.kind] AS priority, u.parameters::json AS parameters, u.trace,
               u.options::json AS o
        FROM unnest(%(id)s::uuid[], %(kind)s::integer[], %(parameters)s::text[], %(trace)s::text[],
                    %(options)s::text[])
             AS u(id, kind, parameters, trace, options)) i
)"""


#: CTEs that accept what the CTE ``source``, a part of :data:`INPUT`, has; `new` says which. ``key`` and ``key_of``: where
#: some may have a unique key, its column and its value. ``asked``: by whom (:data:`OF_ONE`, :data:`OF_SEVERAL`).
ACCEPTED = """
new AS (
  INSERT INTO task (id, celery_id, task_type, queue, priority, submitted_at, run_at, expires_at, retries, max_retries,
                    time_limit, soft_time_limit, on_worker_lost, args, parameters, celery, metadata, tags, rerun_of, trace
                    {key})
  SELECT id, o->>'celery_id', task_type, queue, priority, now(), run_at, expires_at,
         coalesce((o->>'retries')::integer, 0), (o->>'max_retries')::integer, (o->>'time_limit')::real,
         (o->>'soft_time_limit')::real, o->>'on_worker_lost', (o->>'args')::json, parameters, (o->>'celery')::json,
         (o->>'metadata')::json,
         CASE WHEN o->'tags' IS NOT NULL THEN ARRAY(SELECT json_array_elements_text(o->'tags')) END,
         (o->>'rerun_of')::uuid, trace{key_of}
  FROM {source}
  ON CONFLICT DO NOTHING
  RETURNING id, task_type, queue, priority, submitted_at, run_at, expires_at
), made_ready AS (
  INSERT INTO ready (task_id, queue, priority, run_at, task_type, expires_at)
  SELECT id, queue, priority, submitted_at, task_type, expires_at FROM new WHERE run_at IS NULL OR run_at <= now()
), made_held AS (
  INSERT INTO held (task_id, queue, priority, task_type, reason, until, expires_at)
  SELECT id, queue, priority, task_type, 'eta', run_at, expires_at FROM new WHERE run_at > now()
), logged AS (
  INSERT INTO task_event (task_id, seq, at, kind, actor)
  SELECT new.id, 1, new.submitted_at, 'submitted', {asked}
), counted AS (
  INSERT INTO task_count (task_type, queue, state, delta)
  SELECT task_type, queue, 'PENDING', count(*) FROM new GROUP BY task_type, queue
)"""

#: All were asked for by the same actor; saves sorting them all to find out whose each is.
OF_ONE = "(%(actor)s::text[])[1] FROM new"
OF_SEVERAL = "(%(actor)s::text[])[input.kind] FROM new JOIN input ON input.id = new.id"

_HOW_MANY = "SELECT queue, count(*) FILTER (WHERE coalesce(run_at <= now(), true)) FROM new GROUP BY queue"
# For most submits: new tasks without special fields, all of which become ready at once.
_SUBMIT_PLAIN = """
WITH input AS MATERIALIZED (
  SELECT u.id, (%(task_type)s::text[])[u.kind] AS task_type, (%(queue)s::text[])[u.kind] AS queue,
         (%(priority)s::smallint[])[u.kind] AS priority, (%(actor)s::text[])[u.kind] AS actor, u.parameters, u.trace
  FROM unnest(%(id)s::uuid[], %(kind)s::integer[], %(parameters)s::text[], %(trace)s::text[])
       AS u(id, kind, parameters, trace)
), new AS (
  INSERT INTO task (id, task_type, queue, priority, submitted_at, parameters, trace)
  SELECT id, task_type, queue, priority, now(), parameters::json, trace FROM input
), made_ready AS (
  INSERT INTO ready (task_id, queue, priority, run_at, task_type)
  SELECT id, queue, priority, now(), task_type FROM input
), logged AS (
  INSERT INTO task_event (task_id, seq, at, kind, actor) SELECT id, 1, now(), 'submitted', actor FROM input
), counted AS (
  INSERT INTO task_count (task_type, queue, state, delta)
  SELECT task_type, queue, 'PENDING', count(*) FROM input GROUP BY task_type, queue
)
SELECT queue, count(*) FROM input GROUP BY queue
"""
_ACCEPTED = ACCEPTED.format(source="input", key="", key_of="", asked="{asked}")
_SUBMIT = f"WITH {INPUT}, {_ACCEPTED.format(asked=OF_ONE)} {_HOW_MANY}"
_SUBMIT_OF_SEVERAL = f"WITH {INPUT}, {_ACCEPTED.format(asked=OF_SEVERAL)} {_HOW_MANY}"
