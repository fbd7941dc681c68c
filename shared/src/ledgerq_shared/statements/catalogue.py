"""The catalogue of task types, which outlives the workers that registered them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ledgerq_shared.sql import Statement
from ledgerq_shared.statements.arrays import text_array
from ledgerq_shared.statements.workers import IS_LIVE


class CatalogueEntry(NamedTuple):
    """A task type as ``ledgerq-worker register`` writes it; JSON fields are encoded."""

    name: str
    doc: str
    #: JSON Schema (2020-12) of the keyword arguments.
    parameters_schema: str
    queue: str
    #: ``{max_retries, time_limit, soft_time_limit, on_worker_lost, ignore_result, rate_limit, priority}``
    options: str


def register_task_types(entries: Sequence[CatalogueEntry]) -> Statement:
    """Add or update task types. Rows: ``(name,)`` of those that are new or differ from before."""
    return Statement(
        """
        INSERT INTO task_type (name, doc, parameters_schema, queue, options, registered_at, updated_at)
        SELECT name, doc, schema::json, queue, options::json, now(), now()
        FROM unnest(%(name)s::text[], %(doc)s::text[], %(schema)s::text[], %(queue)s::text[], %(options)s::text[])
          AS i(name, doc, schema, queue, options) ORDER BY name COLLATE "C"
        ON CONFLICT (name) DO UPDATE SET doc = excluded.doc, parameters_schema = excluded.parameters_schema,
          queue = excluded.queue, options = excluded.options, updated_at = now()
        WHERE (task_type.doc, task_type.parameters_schema::text, task_type.queue, task_type.options::text)
          IS DISTINCT FROM (excluded.doc, excluded.parameters_schema::text, excluded.queue, excluded.options::text)
        RETURNING name
        """,
        {
            "name": text_array(entry.name for entry in entries),
            "doc": text_array(entry.doc for entry in entries),
            "schema": text_array(entry.parameters_schema for entry in entries),
            "queue": text_array(entry.queue for entry in entries),
            "options": text_array(entry.options for entry in entries),
        },
    )


def read_catalogue() -> Statement:
    """Rows ``(name, doc, parameters_schema, queue, options, registered_at, updated_at)``, by name; JSON decoded."""
    return Statement(
        """
        SELECT name, doc, parameters_schema, queue, options, registered_at, updated_at FROM task_type ORDER BY name
        """,
        {},
    )


def catalogue_version() -> Statement:
    """Row ``(count, latest updated_at)``: changes whenever the catalogue does."""
    return Statement("SELECT count(*), max(updated_at) FROM task_type", {})


def live_workers_by_type() -> Statement:
    """Rows ``(task_type, [worker names])`` of the live workers."""
    return Statement(
        f"""
        SELECT t, array_agg(name ORDER BY name) FROM worker w, unnest(w.task_types) AS t
        WHERE {IS_LIVE} GROUP BY t
        """,
        {},
    )
