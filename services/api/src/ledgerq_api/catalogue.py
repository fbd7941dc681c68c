"""The task types that the API knows: they are read from the ledger, and their validators are compiled once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jsonschema_rs
import structlog

from ledgerq_shared.errors import NoTaskTypes, TaskTypeNotFound, UnknownTaskType
from ledgerq_shared.languages import say
from ledgerq_shared.statements.catalogue import CatalogueRow
from ledgerq_shared.statements.submit import DEFAULT_PRIORITY

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class TaskType:
    """A registered task type."""

    name: str
    doc: str
    schema: dict[str, Any]
    queue: str
    options: dict[str, Any]
    registered_at: datetime
    updated_at: datetime
    #: Checks keyword arguments; None if the stored schema itself is broken, and then nothing is checked.
    validator: jsonschema_rs.Draft202012Validator | None

    @property
    def priority(self) -> int:
        """The priority of its tasks unless the submit gives another."""
        value = self.options.get("priority")
        return DEFAULT_PRIORITY if value is None else int(value)

    def max_attempts(self, max_retries: int | None) -> int | None:
        """How many attempts a task with its own ``max_retries`` may have (None: the type's value is used); returns None
        for no limit.
        """
        retries = self.options.get("max_retries") if max_retries is None else max_retries
        return None if retries is None else int(retries) + 1


class Catalogue:
    """All task types at one moment. A catalogue is immutable; a newer one replaces it."""

    def __init__(self, types: Mapping[str, TaskType]) -> None:
        self.types = types

    def find(self, name: str, pointer: str) -> TaskType:
        """The type that a submit names, at ``pointer`` of its body.

        Raises:
            NoTaskTypes: the catalogue is empty.
            UnknownTaskType: it suggests the nearest names.
        """
        found = self.types.get(name)
        if found is not None:
            return found
        if not self.types:
            raise NoTaskTypes
        near = self.near(name)
        matches = ", ".join(repr(match) for match in near)
        hint = say(" Did you mean {matches}?", matches=matches) if near else say(" See GET /task-types.")
        detail = say("No task type {name!r} is registered.", name=name[:255])
        where = pointer.removeprefix("#/")
        raise UnknownTaskType(
            say("{where}: {detail}{hint}", where=where, detail=detail, hint=hint),
            suggestions=near,
            errors=[{"detail": str(detail), "pointer": pointer}],
        )

    def show(self, name: str) -> TaskType:
        """The type that a request's path names."""
        found = self.types.get(name)
        if found is None:
            raise TaskTypeNotFound(
                say("No task type {name!r} is registered.", name=name[:255]), suggestions=self.near(name)
            )
        return found

    def near(self, name: str) -> list[str]:
        """Registered names that a client who wrote ``name`` may have meant, the best first."""
        last = name.rpartition(".")[2]
        same_last = [known for known in self.types if known.rpartition(".")[2] == last]
        by_name = difflib.get_close_matches(name, self.types, n=3, cutoff=0.6)
        lasts = {known.rpartition(".")[2]: known for known in self.types}
        by_last = [lasts[match] for match in difflib.get_close_matches(last, lasts, n=3, cutoff=0.75)]
        return list(dict.fromkeys([*same_last, *by_name, *by_last]))[:3]


def build(rows: Iterable[CatalogueRow], before: Catalogue | None) -> Catalogue:
    """A catalogue from the rows of ``read_catalogue``; types that have not changed are taken over from ``before``."""
    types: dict[str, TaskType] = {}
    for row in rows:
        old = None if before is None else before.types.get(row.name)
        if old is not None and old.updated_at == row.updated_at:
            types[row.name] = old
        else:
            types[row.name] = TaskType(*row, validator=_compile(row.name, row.parameters_schema))
    return Catalogue(types)


def _compile(name: str, schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator | None:
    try:
        return jsonschema_rs.Draft202012Validator(schema, offline=True)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        log.warning("api.catalogue.broken_schema", task_type=name, error=str(error))
        return None
