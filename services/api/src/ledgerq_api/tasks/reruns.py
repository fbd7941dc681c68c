"""Makes a new task that is like an earlier one, except where the caller gives other values."""

from __future__ import annotations

import dataclasses
import json
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Raw

from ledgerq_api.auth.callers import Caller
from ledgerq_api.catalogue import Catalogue
from ledgerq_api.requests.origin import origin
from ledgerq_api.tasks.drafts import draft
from ledgerq_api.tasks.schemas import SubmitBody
from ledgerq_shared.errors import InvalidParameters
from ledgerq_shared.languages import say
from ledgerq_shared.statements.resubmit import RepeatableTask
from ledgerq_shared.statements.submit import NewTask, NewTaskOptions


def rerun_of(task_id: str, earlier: RepeatableTask, edits: Any, catalogue: Catalogue, *, caller: Caller) -> NewTask:
    """The new task.

    Args:
        caller: who asks for it.
        edits: a ``RerunBody``. `task_parameters` replaces single parameters; everything else replaces the whole field.

    Raises:
        UnknownTaskType, NoTaskTypes, InvalidParameters, InvalidRequest
    """
    fields = _fields(earlier)
    fields.update(
        (name, value) for name in SubmitBody.__struct_fields__ if (value := getattr(edits, name, UNSET)) is not UNSET
    )
    if edits.task_parameters is not UNSET:
        fields["task_parameters"] = _merged(earlier.parameters, edits.task_parameters)
    task = draft(SubmitBody(**fields), _lenient(catalogue, earlier), caller, trace=origin().text())
    options = (task.options or NewTaskOptions())._replace(
        rerun_of=UUID(task_id),
        args=earlier.args,
        # Arguments in Celery's JSON must be read as such; callbacks and chains are not run a second time.
        celery="{}" if earlier.is_from_celery else None,
    )
    return task._replace(options=options)


def _fields(earlier: RepeatableTask) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "task_type": earlier.task_type,
        "task_parameters": Raw(earlier.parameters.encode()),
        "queue": earlier.queue,
        "priority": earlier.priority,
        "max_retries": earlier.max_retries,
        "time_limit": earlier.time_limit,
        "soft_time_limit": earlier.soft_time_limit,
        "on_worker_lost": earlier.on_worker_lost,
        "tags": earlier.tags,
    }
    if earlier.metadata is not None:
        fields["metadata"] = Raw(earlier.metadata.encode())
    return fields


def _merged(parameters: str, edits: Raw) -> Raw:
    """The old parameters, replaced by the given ones at the top level."""
    try:
        given = msgspec.json.decode(edits)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return edits  # the draft says what is wrong with it
    if not isinstance(given, dict):
        raise InvalidParameters(
            say("task_parameters must be a JSON object."),
            errors=[{"detail": "must be a JSON object", "pointer": "#/task_parameters"}],
        )
    # Uses Python's own decoder, because parameters from Celery may contain text that msgspec refuses (a lone
    # surrogate).
    return Raw(json.dumps({**json.loads(parameters), **json.loads(bytes(edits))}).encode())


def _lenient(catalogue: Catalogue, earlier: RepeatableTask) -> Catalogue:
    """A catalogue without a check of the parameters if the earlier task needs that: the schema describes neither
    positional arguments nor Celery's tagged JSON.
    """
    known = catalogue.find(earlier.task_type, "#/task_type")
    if not earlier.is_from_celery and earlier.args is None:
        return catalogue
    return Catalogue({known.name: dataclasses.replace(known, validator=None)})
