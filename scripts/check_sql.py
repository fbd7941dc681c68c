"""SQL belongs only in ``statements/``, where each text has its contract: ``make lint`` reports SQL anywhere else.

Migrations make the tables. Apart from them, a few modules ask the server about itself and not about the ledger: they
are named here, each with its reason.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_SHARED = "shared/src/ledgerq_shared"
#: Modules whose SQL is not about the ledger.
SPEAKS_WITH_THE_SERVER = {
    f"{_SHARED}/postgres/database.py": "what begins and confirms a transaction",
    f"{_SHARED}/postgres/upkeep.py": "what server processes do",
    f"{_SHARED}/postgres/prepared.py": "what a session keeps",
    f"{_SHARED}/revision.py": "whether there are tables, and of which revision",
    f"{_SHARED}/migrate.py": "whether there is anything to migrate",
    f"{_SHARED}/doctor/findings.py": "how the server is set",
    f"{_SHARED}/doctor/rehearsal.py": "a transaction for trials",
    "services/monitor/src/ledgerq_monitor/stores.py": "whether PostgreSQL answers",
}
_ANYTHING_IN = (
    f"{_SHARED}/statements/",
    f"{_SHARED}/migrations/",
    f"{_SHARED}/embedded/",
    "services/worker/src/ledgerq_testing/statements.py",
)
_SQL = re.compile(
    r"\s*(?:SELECT(?: |$)|INSERT INTO \w|UPDATE \w+(?: \w+)? SET |DELETE FROM \w|WITH (?:RECURSIVE )?\w+(?:\([^)]*\))? AS )"
)


def found(text: str) -> Iterator[int]:
    """Lines of a module's text on which SQL begins."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _SQL.match(node.value):
            yield node.lineno


def misplaced() -> Iterator[str]:
    """Places with SQL that should be in ``statements/``; and exceptions that no longer contain any SQL."""
    modules = {
        path.relative_to(ROOT).as_posix(): path
        for folder in ("shared/src", "services", "launcher")
        for path in sorted((ROOT / folder).rglob("*.py"))
    }
    for name, path in modules.items():
        lines = [] if name.startswith(_ANYTHING_IN) else list(found(path.read_text("utf-8")))
        if name not in SPEAKS_WITH_THE_SERVER:
            yield from (f"{name}:{line}: SQL stands in {_SHARED}/statements" for line in lines)
        elif not lines:
            yield f"{name}: has no SQL any more; take it out of scripts/check_sql.py"


if __name__ == "__main__":
    sys.exit("\n".join(misplaced()) or None)
