"""What every statement of a kind must do, also the next one that somebody writes."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator

import pytest

from ledgerq_shared import statements
from ledgerq_shared.statements.dispatch import expire

#: Sets a moment of completion (not NULL).
_ENDS_TASKS = re.compile(r"UPDATE task t SET(?:(?!\bFROM\b).)*completed_at = (?!NULL)", re.DOTALL)


def texts() -> Iterator[tuple[str, str]]:
    """Every statement that is a constant, and those that are not."""
    yield "dispatch.expire", expire(limit=1).sql
    for module in pkgutil.iter_modules(statements.__path__):
        for name, value in vars(importlib.import_module(f"{statements.__name__}.{module.name}")).items():
            if isinstance(value, str) and not name.startswith("__"):
                yield f"{module.name}.{name}", value


ENDING = {name: sql for name, sql in texts() if _ENDS_TASKS.search(sql)}


def test_the_statements_that_end_tasks_are_found():
    assert {"record._ENDED", "record._END_FROM_OUTSIDE", "recover._RECOVER", "dispatch.expire"} <= ENDING.keys()


@pytest.mark.parametrize("name", sorted(ENDING))
def test_a_statement_that_ends_tasks_also_writes_the_event_the_counts_and_frees_the_unique_key(name):
    sql = ENDING[name]
    assert "INSERT INTO task_event" in sql
    assert "INSERT INTO task_count" in sql
    # `replace` gives the key to the next task instead.
    assert "DELETE FROM unique_key" in sql or "UPDATE unique_key" in sql
