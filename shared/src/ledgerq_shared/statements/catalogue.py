"""The catalogue of task types, which outlives the workers that registered them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

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


class CatalogueRow(NamedTuple):
    """A registered task type; JSON is decoded."""

    name: str
    doc: str
    #: As in :class:`CatalogueEntry`; so is ``options``.
    parameters_schema: dict[str, Any]
    queue: str
    options: dict[str, Any]
    registered_at: datetime
    updated_at: datetime


def register_task_types(entries: Sequence[CatalogueEntry]) -> Statement[tuple[str]]:
    """Add or update task types; returns the names of those that are new or have changed."""
    return Statement(
        _REGISTER_TASK_TYPES,
        {
            "name": text_array(entry.name for entry in entries),
            "doc": text_array(entry.doc for entry in entries),
            "schema": text_array(entry.parameters_schema for entry in entries),
            "queue": text_array(entry.queue for entry in entries),
            "options": text_array(entry.options for entry in entries),
        },
    )


_REGISTER_TASK_TYPES = """
INSERT INTO task_type (name, doc, parameters_schema, queue, options, registered_at, updated_at)
SELECT name, doc, schema::json, queue, options::json, now(), now()
FROM unnest(%(name)s::text[], %(doc)s::text[], %(schema)s::text[], %(queue)s::text[], %(options)s::text[])
  AS i(name, doc, schema, queue, options) ORDER BY name COLLATE "C"
ON CONFLICT (name) DO UPDATE SET doc = excluded.doc, parameters_schema = excluded.parameters_schema,
  queue = excluded.queue, options = excluded.options, updated_at = now()
WHERE (task_type.doc, task_type.parameters_schema::text, task_type.queue, task_type.options::text)
  IS DISTINCT FROM (excluded.doc, excluded.parameters_schema::text, excluded.queue, excluded.options::text)
RETURNING name
"""


def read_catalogue() -> Statement[CatalogueRow]:
    """All task types, by name."""
    return Statement(
        """
        SELECT name, doc, parameters_schema, queue, options, registered_at, updated_at FROM task_type ORDER BY name
        """,
        {},
        row=CatalogueRow._make,
    )


def catalogue_version() -> Statement[tuple[int, datetime | None]]:
    """How many types there are, and when one was last updated: it changes whenever the catalogue does."""
    return Statement("SELECT count(*), max(updated_at) FROM task_type", {})


def live_workers_by_type() -> Statement[tuple[str, list[str]]]:
    """By task type, the names of the live workers that know it."""
    return Statement(
        f"""
        SELECT t, array_agg(name ORDER BY name) FROM worker w, unnest(w.task_types) AS t
        WHERE {IS_LIVE} GROUP BY t
        """,
        {},
    )
