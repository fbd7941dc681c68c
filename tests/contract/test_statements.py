"""What every statement of a kind must do, also the next one that somebody writes."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pkgutil
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from ledgerq_shared import statements

ROOT = Path(__file__).resolve().parents[2]

_WRITES = re.compile(r"\b(?:INSERT INTO|UPDATE \w+(?: \w+)? SET|DELETE FROM|TRUNCATE|(?:CREATE|ALTER|DROP) [A-Z]+)\b")
#: Sets a moment of completion (not NULL).
_ENDS_TASKS = re.compile(r"UPDATE task t SET(?:(?!\bFROM\b).)*completed_at = (?!NULL)", re.DOTALL)


def texts() -> Iterator[tuple[str, str]]:
    """Every text of the statements: the constants of the modules."""
    for found in pkgutil.iter_modules(statements.__path__):
        module = importlib.import_module(f"{statements.__name__}.{found.name}")
        for name, value in vars(module).items():
            if isinstance(value, str) and not name.startswith("__"):
                yield f"{found.name}.{name}", value


def writing_in_functions() -> Iterator[str]:
    """Functions of the statements in which there is a text that writes."""
    for path in sorted(Path(statements.__path__[0]).glob("*.py")):
        for function in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(function, ast.FunctionDef):
                docstring = function.body[0].value if isinstance(function.body[0], ast.Expr) else None
                for node in ast.walk(function):
                    if isinstance(node, ast.Constant) and node is not docstring and _WRITES.search(str(node.value)):
                        yield f"{path.stem}.{function.name}"


def test_a_public_name_stands_in_one_module():
    modules = defaultdict(list)
    for path in sorted(Path(statements.__path__[0]).glob("*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                modules[node.name].append(path.stem)
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                modules[node.targets[0].id].append(path.stem)
    assert {name: found for name, found in modules.items() if len(found) > 1 and not name.startswith("_")} == {}


def test_what_writes_is_a_constant_so_that_its_contract_is_seen_here():
    assert list(writing_in_functions()) == []


ENDING = {name: sql for name, sql in texts() if _ENDS_TASKS.search(sql)}


def test_the_statements_that_end_tasks_are_found():
    assert {"record._ENDED", "record._END_FROM_OUTSIDE", "recover._RECOVER", "expire._EXPIRE"} <= ENDING.keys()


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
