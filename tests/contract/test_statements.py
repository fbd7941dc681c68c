"""What every statement of a kind must do, also the next one that somebody writes."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import pkgutil
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest

from ledgerq_shared import statements

ROOT = Path(__file__).resolve().parents[2]

#: Sets a moment of completion (not NULL).
_ENDS_TASKS = re.compile(r"UPDATE task t SET(?:(?!\bFROM\b).)*completed_at = (?!NULL)", re.DOTALL)


def texts() -> Iterator[tuple[str, str]]:
    """Every text of the statements: constants of the modules, and what stands in a function, with constants put in."""
    for found in pkgutil.iter_modules(statements.__path__):
        module = importlib.import_module(f"{statements.__name__}.{found.name}")
        for name, value in vars(module).items():
            if isinstance(value, str) and not name.startswith("__"):
                yield f"{found.name}.{name}", value
        for function in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(function, ast.FunctionDef):
                said = [
                    text_of(node, vars(module))
                    for node in ast.walk(function)
                    if isinstance(node, (ast.Constant, ast.JoinedStr))
                ]
                yield f"{found.name}.{function.name}", max(said, key=len, default="")


def text_of(node: ast.Constant | ast.JoinedStr, names: Mapping[str, object]) -> str:
    """A text as it is when its module's constants are put in; what only its function knows is left out."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    parts = [
        part if isinstance(part, ast.Constant) else part.value for part in node.values if not isinstance(part, str)
    ]
    return "".join(
        str(part.value) if isinstance(part, ast.Constant) else str(names.get(getattr(part, "id", ""), ""))
        for part in parts
    )


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


@pytest.fixture
def check_sql() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_sql", ROOT / "scripts" / "check_sql.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sql_stands_in_statements_alone(check_sql: ModuleType):
    assert list(check_sql.misplaced()) == []


@pytest.mark.parametrize(
    "line",
    [
        'run("SELECT state FROM task")', 'run(f"SELECT {columns} FROM task")',
        'run("""\n  WITH gone AS (SELECT 1) SELECT""")',
        'run("UPDATE task t SET state = 1")', 'run("DELETE FROM claim")', 'run("INSERT INTO ready VALUES (1)")',
    ],
)  # fmt: skip
def test_sql_is_found_wherever_it_begins(check_sql: ModuleType, line: str):
    assert list(check_sql.found(f"number = 1\n{line}\n")) == [2]


def test_words_are_no_sql(check_sql: ModuleType):
    assert (
        list(check_sql.found('"""Select what is waiting."""\nsay("UPDATE failed", "WITH care", "DELETE it")\n')) == []
    )
