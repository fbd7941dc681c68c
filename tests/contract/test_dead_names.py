"""Nothing is there for the tests alone."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
CODE = [
    *ROOT.glob("shared/src/**/*.py"),
    *ROOT.glob("services/*/src/**/*.py"),
    *ROOT.glob("launcher/*.py"),
    *ROOT.glob("scripts/**/*.py"),
    ROOT / "main.py",
]
#: Methods that others' classes call: asyncio, io, logging, Celery, uvicorn, Flower, pytest.
CALLED_BY_OTHERS = {
    "check_xsrf_cookie", "emit", "ensure_connected", "filter", "initialize", "main_loop", "pytest_configure",
    "send_400_response", "writable",
}  # fmt: skip
DEFINES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def defined(module: ast.Module) -> Iterator[str]:
    """Functions, methods and classes that no decorator registers, and the module's own constants."""
    for node in ast.walk(module):
        if isinstance(node, DEFINES) and not node.decorator_list:
            yield node.name
    for node in module.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def used(module: ast.Module) -> Iterator[str]:
    """Every name that is read, and every word of a text that is no doc string."""
    docs = {
        id(node.body[0].value)
        for node in ast.walk(module)
        if isinstance(node, (ast.Module, *DEFINES)) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(module):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.arg
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield from re.findall(r"\w+", node.value)


def test_no_name_of_the_code_is_used_by_tests_alone():
    modules = {path: ast.parse(path.read_text("utf-8")) for path in CODE}
    uses = Counter(name for module in modules.values() for name in used(module))
    dead = {
        f"{path.relative_to(ROOT)}: {name}"
        for path, module in modules.items()
        if "versions" not in path.parts  # Alembic calls them
        for name in defined(module)
        if not uses[name] and not re.fullmatch(r"__\w+__", name) and name not in CALLED_BY_OTHERS
    }
    assert not dead
